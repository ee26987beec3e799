"""Nodes of the challenges, and their learning curves."""

from hbn_foundation.pipelines.challenge.pipeline import (
    create_learning_curve1,
    create_learning_curve2,
)

__all__ = ["create_learning_curve1", "create_learning_curve2"]
