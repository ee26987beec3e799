"""From a foundation checkpoint to a model of any label, of response times, of factors."""

from hbn_foundation.pipelines.finetuning.pipeline import (
    create_challenge1,
    create_challenge2,
    create_finetuning,
)

__all__ = ["create_challenge1", "create_challenge2", "create_finetuning"]
