"""From a BIDS root to the signal store, the subject splits and the statistics."""

from hbn_foundation.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
