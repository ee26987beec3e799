"""From the signal store to a pretrained encoder and its evaluation."""

from hbn_foundation.pipelines.foundation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
