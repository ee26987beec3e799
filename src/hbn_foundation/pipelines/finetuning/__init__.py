"""From a foundation checkpoint to one fine-tuned for a label, and its evaluation."""

from hbn_foundation.pipelines.finetuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
