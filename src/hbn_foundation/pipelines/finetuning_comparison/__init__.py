"""Ways of fine-tuning and classical baselines compared on the same subject splits."""

from hbn_foundation.pipelines.finetuning_comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
