"""From a foundation checkpoint to models of response times and of psychopathology factors."""

from hbn_foundation.pipelines.challenge.pipeline import (
    create_challenge1,
    create_challenge2,
    create_learning_curve1,
    create_learning_curve2,
)

__all__ = [
    "create_challenge1",
    "create_challenge2",
    "create_learning_curve1",
    "create_learning_curve2",
]
