"""The baseline from scratch: the same model, trained alike, from random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.recipes import ChallengeRecipe
from hbn_foundation.evaluation.tasks.challenges import challenge_of
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

FROM_SCRATCH = "from_scratch"


def scratch_predictions(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    wanted: bool,
    run_id: str,
) -> pd.DataFrame:
    """Train from random weights, and predict the test windows.

    Parameters
    ----------
    foundation
        Whose architecture is trained, with none of its weights; its normalisation of the tokens,
        fitted on training subjects, stays.
    dataset, recipe, device_plan, run_id
        Of the fine-tuning that it stands beside.
    wanted
        Whether it is trained.

    Returns
    -------
    pandas.DataFrame
        As of the challenge's `predict`; empty where it is not wanted, or the model itself begins
        from random weights.
    """
    from hbn_foundation.training.finetune import FineTuningJob

    trainer = recipe.trainer
    if not wanted or trainer.start == FROM_SCRATCH:
        say("from scratch: left out")
        return pd.DataFrame()
    alike = recipe.model_copy(
        update={"trainer": trainer.model_copy(update={"start": FROM_SCRATCH}), "fault": None}
    )
    job = FineTuningJob(dataset, alike, device_plan, foundation)
    checkpoint, _, _ = job.supervise(Path(trainer.work_dir), run_id=f"{run_id}-{FROM_SCRATCH}")
    predict = challenge_of(recipe.evaluation).predict
    predictions = predict(checkpoint, dataset, trainer.batch_size)
    if checkpoint.when_stored is not None:  # nothing but its predictions is kept
        checkpoint.when_stored()
    return predictions
