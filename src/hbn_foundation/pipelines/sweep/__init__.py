"""Shared base models: trained once, fine-tuned for every left-out subject, mode and data share."""

from hbn_foundation.pipelines.sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
