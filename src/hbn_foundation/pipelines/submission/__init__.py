"""From two fine-tuned checkpoints to a checked submission and its score."""

from hbn_foundation.pipelines.submission.pipeline import create_pipeline

__all__ = ["create_pipeline"]
