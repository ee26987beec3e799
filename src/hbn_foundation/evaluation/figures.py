"""Figures of a foundation model: how it trained, how it scores, what it confuses, what it maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.evaluation.confusion_figure import confusion_figure
from hbn_foundation.evaluation.embedding_figure import embedding_figure
from hbn_foundation.evaluation.score_figure import score_figure
from hbn_foundation.evaluation.training_figure import training_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def foundation_figures(
    history: pd.DataFrame,
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    embedding: pd.DataFrame,
    folds: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """Draw all figures of a pretraining run and its evaluation.

    Parameters
    ----------
    history
        One row per epoch.
    scores
        One row per method.
    predictions
        The probe's answer to each test window.
    embedding
        Two coordinates per window.
    folds
        Scores over repeated subject splits; where there are some, they take the place of the
        single split in the figure of the scores.

    Returns
    -------
    dict
        `training_curves`, `scores`, `confusion_matrix`, `embedding`.
    """
    return {
        "training_curves": training_figure(history),
        "scores": score_figure(scores, folds),
        "confusion_matrix": confusion_figure(predictions),
        "embedding": embedding_figure(embedding),
    }
