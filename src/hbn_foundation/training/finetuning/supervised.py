"""Fine-tuning that survives: `train_supervised` with the identity of a fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.training.finetuning.extras import PLAIN, Extras
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.params import NOT_IN_THE_WEIGHTS
from hbn_foundation.training.supervised import digest, train_supervised

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

TARGET = "hbn_foundation.training.finetuning.finetuning:finetune_in"


def finetune_supervised(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    extras: Extras = PLAIN,
    **supervised: Any,
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Fine-tune under supervision.

    Parameters
    ----------
    checkpoint, store, windows, splits, participants, label, head, plan, rates, regularisation,
    trainer, device_plan, extras
        As for `finetuning.finetune`.
    work_dir, supervised
        As for `train_supervised`: `run_id`, `supervision`, `fault`.

    Returns
    -------
    tuple
        As of `train_supervised`.
    """
    groups = {
        "label": label,
        "head": head,
        "plan": plan,
        "rates": rates,
        "regularisation": regularisation,
    }
    kinds = {label.kind, *(one.label.kind for one in extras.more_targets.chosen.values())}
    identity = {
        **{name: params.model_dump(mode="json") for name, params in groups.items()},
        "trainer": trainer.model_dump(mode="json", exclude=set(NOT_IN_THE_WEIGHTS)),
        **extras.dump(),
        "checkpoint": {
            "run_id": checkpoint.metadata.get("run_id"),
            "weights": checkpoint.metadata.get("weights_sha256"),
        },
        "data": {
            "signals": store.fingerprint,
            "windows": digest(windows[["recording", "start"]]),
            "splits": digest(splits[["subject", "split"]].sort_values("subject")),
            "participants": digest(participants) if "participant" in kinds else None,
            **({"trials": digest(windows)} if "trial" in kinds else {}),
        },
    }
    arguments = {
        "checkpoint": checkpoint,
        "store": store,
        "windows": windows,
        "splits": splits,
        "participants": participants,
        **groups,
        "extras": extras,
        "trainer": trainer,
        "device_plan": device_plan,
    }
    return train_supervised(
        TARGET, arguments, identity, trainer, device_plan, work_dir, **supervised
    )
