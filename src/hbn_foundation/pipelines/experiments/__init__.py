"""Many trainings at once: plans compared, learning curves, sweeps over shared bases."""

from hbn_foundation.pipelines.experiments.pipeline import (
    create_comparison,
    create_learning_curve,
    create_sweep,
)

__all__ = ["create_comparison", "create_learning_curve", "create_sweep"]
