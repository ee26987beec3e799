"""Score the task that the encoder was pretrained on, beside trivial predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

#: The trivial predictors of each loss.
TRIVIAL = {
    "recording_loss": ("trivial_copy", "trivial_recording_mean"),
    "band_loss": ("trivial_copy", "trivial_band_mean"),
    "patch_loss": ("trivial_patch_mean", "trivial_visible_patches"),
    "masked_band_loss": ("trivial_masked_band_mean",),
    "slow_loss": ("trivial_linear", "trivial_white_noise"),
    "slow_prediction_loss": ("trivial_linear", "trivial_slow_mean"),
    "loss": ("trivial_loss",),
}


def pretext_scores(
    checkpoint: Checkpoint, dataset: EEGDataset, params: EvaluationParams
) -> dict[str, dict[str, float]]:
    """Score the checkpoint's own objective on validation and test subjects.

    At most `params.max_windows` windows per split are scored, of those the objective can use.
    Nothing here depends on labels unless the objective does.

    Returns
    -------
    dict
        `validation` and `test`, each with the objective's scores, its trivial predictors' and what
        `improvements` adds.
    """
    from hbn_foundation.training.pretrain import pretext_scores as score

    result = {}
    for number, name in enumerate(("validation", "test")):
        subjects = dataset.splits.loc[dataset.splits["split"] == name, "subject"].astype(str)
        try:
            scores = score(
                checkpoint, dataset.store, dataset.windows, subjects, dataset.participants,
                most=params.max_windows, seed=params.seed + number,
            )  # fmt: skip
        except UserError as error:  # these windows do not serve the checkpoint's objective
            say(f"pretext on {name} subjects not scored: {error}")
            scores = {"n_windows": 0.0}
        result[name] = {**scores, **improvements(scores)}
    return result


def improvements(scores: Mapping[str, float]) -> dict[str, float]:
    """Compute by what share each loss is below the best of its trivial predictors.

    As `improvement_<loss>`, and as `improvement` that of the objective's main loss, which comes
    first in its scores. 0.3 means 30 % below; a negative number, worse than trivial.
    """
    result: dict[str, float] = {}
    for loss in scores:
        found = [scores[name] for name in TRIVIAL.get(loss, ()) if name in scores]
        if found and np.isfinite(scores[loss]) and min(found) > 0:
            value = 1 - scores[loss] / min(found)
            result.setdefault("improvement", value)
            result[f"improvement_{loss}"] = value
    return result
