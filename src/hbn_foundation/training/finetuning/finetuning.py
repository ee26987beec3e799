"""Fine-tune a checkpoint for a label: from windows and targets to a checkpoint with a head.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.config import MAIN
from hbn_foundation.training.checkpoint import Checkpoint, fitted_once
from hbn_foundation.training.data import subjects_of
from hbn_foundation.training.finetuning.plans import Block, make_plan
from hbn_foundation.training.finetuning.preflight import check_finetuning
from hbn_foundation.training.finetuning.rates import for_scratch
from hbn_foundation.training.fitting import accelerator, final_checkpoint, fit
from hbn_foundation.training.model_building import encoder_params
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.pretraining import library_versions, threads
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.supervision.heartbeat import START
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import FITTED

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.finetuning.loop import FineTuningLoop


def finetune(
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    run_id: str | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Fine-tune in this process and without supervision; `finetune_supervised` survives more.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    dataset
        The data; test subjects are never read.
    recipe
        What is to be learned, and how.
    device_plan
        `chosen` says where to train.
    work_dir
        Where the checkpoints of this run go.
    run_id
        Named in the metadata; made up where not given.

    Returns
    -------
    Checkpoint
        Weights of the best epoch, `encoder.…` and `head.…`, with provenance.
    pandas.DataFrame
        One row per epoch.

    Raises
    ------
    UserError
        When parameters, labels or checkpoint do not fit; before any training.
    """
    run_id = run_id or uuid.uuid4().hex
    stopped = finetune_in(
        work_dir, checkpoint, dataset, recipe, device_plan, run_id=run_id, link=Link()
    )["stopped"]
    return final_checkpoint(Path(work_dir), stopped)


def finetune_in(
    folder: Path,
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
    *,
    run_id: str,
    link: Link,
) -> dict[str, Any]:
    """Fine-tune in a folder; what the supervised child calls. Parameters as for `finetune`.

    Returns
    -------
    dict
        `stopped`: why the training ended.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    orders = link.orders
    device = orders.device if orders is not None else device_plan["chosen"]
    resume = Path(orders.resume_from) if orders is not None and orders.resume_from else None
    plan = recipe.begun_plan
    targets = check_finetuning(checkpoint, dataset, recipe)
    kept = Path(folder) / FITTED if orders is not None else None
    loop = prepare(checkpoint, dataset, recipe, targets, link=link, kept=kept)
    parent = checkpoint.metadata
    provenance = {
        "kind": "finetuned",
        "run_id": run_id,
        "started_at": started_at,
        "parent_version": parent.get("run_id") if not plan.from_scratch else None,
        "parameters": {
            **recipe.parameters(),
            "plan": plan.model_dump(mode="json"),
            "encoder": encoder_params(loop.model.encoder).model_dump(mode="json"),
        },
        "targets": described(targets[MAIN]),
        "more_targets": {name: described(one) for name, one in targets.items() if name != MAIN},
        "sfreq": parent["sfreq"],
        "n_samples": parent["n_samples"],
        "channel_names": list(dataset.store.channel_names),
        "training_subjects": seen_subjects("train", dataset, parent["training_subjects"]),
        "validation_subjects": seen_subjects(
            "validation", dataset, parent.get("validation_subjects", ())
        ),
        "store_fingerprint": dataset.store.fingerprint,
        "device_plan": device_plan,
        "versions": library_versions(),
        "precision": choose_precision(recipe.trainer.precision, accelerator(device)),
        "threads": threads(),
    }
    return {"stopped": fit(loop, recipe.trainer, device, Path(folder), provenance, link, resume)}


def seen_subjects(split: str, dataset: EEGDataset, before: Iterable[str]) -> list[str]:
    """Subjects of a split with windows, and those that the parent checkpoint has seen."""
    return sorted({*subjects_of(dataset.splits, split, dataset.windows), *before})


def described(targets: WindowTargets) -> dict[str, Any]:
    """Describe targets in the metadata of a checkpoint."""
    return {
        "names": list(targets.names),
        "is_regression": targets.is_regression,
        "mean": targets.mean,
        "sd": targets.sd,
    }


def prepare(
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    targets: Mapping[str, WindowTargets],
    *,
    link: Link | None = None,
    kept: Path | None = None,
) -> FineTuningLoop:
    """Make model, plan, curve and data; parameters as for `finetune`, targets by name.

    What is fitted before the first step is read from the folder `kept`, or left there.
    """
    import torch

    from hbn_foundation.training.finetuning import model_making
    from hbn_foundation.training.finetuning.data import LabelledWindows
    from hbn_foundation.training.finetuning.learning import Learning, side_by_side
    from hbn_foundation.training.finetuning.loop import FineTuningLoop

    link = link or Link()
    plan, rates = recipe.begun_plan, recipe.rates
    trainer, regularisation = recipe.trainer, recipe.regularisation
    store, windows = dataset.store, dataset.windows
    model = model_making.make_model(
        checkpoint, recipe, targets, store.channel_names, scratch=plan.from_scratch
    )
    data = {
        name: LabelledWindows(
            store,
            windows,
            subjects_of(dataset.splits, name, windows),
            checkpoint.metadata["n_samples"],
            trainer.seed,
            side_by_side(targets),
            model.input is not None,
            moving(targets, recipe.heads, store.sfreq),
        )
        for name in ("train", "validation")
    }
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    most = trainer.probe_windows
    fitted_once(kept, model, lambda: model_making.fit_model(
        model, store, data, most, targets, recipe.heads, lambda: link.beat(START)
    ))  # fmt: skip
    blocks = [Block(name, size) for name, size in model.sizes().items()]
    if plan.from_scratch:
        rates = for_scratch(rates)
    weights = {name: one.weight for name, one in recipe.more_targets.chosen.items()}
    return FineTuningLoop(
        model, data["train"], data["validation"], positions, trainer, regularisation,
        plan=make_plan(plan, blocks, trainer.epochs, is_regression=targets[MAIN].is_regression),
        rates=rates,
        learning=Learning(
            targets, model.head, data["train"].targets, regularisation, weights, recipe.heads
        ),
        jitter=round(regularisation.jitter_seconds * store.sfreq), link=link,
    )  # fmt: skip


def moving(
    targets: Mapping[str, WindowTargets], heads: Mapping[str, HeadParams], sfreq: float
) -> np.ndarray:
    """By how much each target (M,) changes where a window begins one sample later."""
    return np.array(
        [
            -1.0 / (sfreq * (one.sd or 1.0)) if one.is_regression and heads[name].is_time else 0.0
            for name, one in targets.items()
        ]
    )
