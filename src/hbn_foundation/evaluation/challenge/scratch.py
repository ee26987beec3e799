"""The baseline from scratch: the same model, trained alike, from random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.challenge.params import FromScratchParams
from hbn_foundation.evaluation.challenge_predictions import predict_numbers, predict_response_times
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.progress import say
from hbn_foundation.training.finetuning.extras import Extras
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import HeadParams

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.supervision.params import SupervisionParams

FROM_SCRATCH = "from_scratch"


def scratch_predictions(
    foundation: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    label: LabelParams,
    model: tuple[HeadParams, PlanParams, RateParams, RegularisationParams],
    trainer: FineTuningParams,
    extras: Extras,
    device_plan: dict[str, Any],
    supervision: SupervisionParams,
    run_id: str,
    params: FromScratchParams,
) -> pd.DataFrame:
    """Train from random weights, and predict the test windows.

    Parameters
    ----------
    foundation
        Whose architecture is trained, with none of its weights; its normalisation of the tokens,
        fitted on training subjects, stays.
    store, windows, splits, participants
        The data.
    label, trainer, extras
        Of the fine-tuning that it stands beside.
    model
        Its head, plan, rates and regularisation.
    device_plan, supervision, run_id
        As for `finetune_supervised`.
    params
        Whether it is wanted.

    Returns
    -------
    pandas.DataFrame
        As of `predict_response_times` or `predict_numbers`; empty where it is not wanted, or the
        model itself begins from random weights.
    """
    from hbn_foundation.training.finetuning.supervised import finetune_supervised

    if not params.train or trainer.start == FROM_SCRATCH:
        say("from scratch: left out")
        return pd.DataFrame()
    checkpoint, _, _ = finetune_supervised(
        foundation, store, windows, splits, participants, label, *model,
        trainer.model_copy(update={"start": FROM_SCRATCH}), device_plan, Path(trainer.work_dir),
        extras=extras, run_id=f"{run_id}-{FROM_SCRATCH}", supervision=supervision,
    )  # fmt: skip
    predict = predict_response_times if label.kind == "trial" else predict_numbers
    predictions = predict(checkpoint, store, windows, splits, trainer.batch_size)
    if checkpoint.when_stored is not None:  # nothing but its predictions is kept
        checkpoint.when_stored()
    return predictions
