"""Many trainings at once: plans compared, learning curves, sweeps over shared bases."""

from hbn_foundation.pipelines.experiments.pipeline import (
    create_comparison,
    create_label_curve,
    create_learning_curve1,
    create_learning_curve2,
    create_sweep,
)

__all__ = [
    "create_comparison",
    "create_label_curve",
    "create_learning_curve1",
    "create_learning_curve2",
    "create_sweep",
]
