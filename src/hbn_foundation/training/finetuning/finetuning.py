"""Fine-tune a checkpoint for a label: from windows and targets to a checkpoint with a head.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.params import HeadParams
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.data import Told, subjects_of
from hbn_foundation.training.finetuning.params import PlanParams, RateParams, as_begun
from hbn_foundation.training.finetuning.plans import Block, make_plan
from hbn_foundation.training.finetuning.preflight import check_finetuning
from hbn_foundation.training.finetuning.rates import for_scratch
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.fitting import accelerator, final_checkpoint, fit
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.pretraining import library_versions, threads
from hbn_foundation.training.supervision.heartbeat import START
from hbn_foundation.training.supervision.link import Link

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.models.finetuned import FineTuned
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.finetuning.loop import FineTuningLoop


def finetune(
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
    run_id: str | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Fine-tune in this process and without supervision; `finetune_supervised` survives more.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    store, windows, splits, participants
        The data; test subjects are never read.
    label
        What is to be learned.
    head, plan, rates, regularisation, trainer
        Parameters.
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
    stopped = finetune_in(
        work_dir, checkpoint, store, windows, splits, participants, label, head, plan, rates,
        regularisation, trainer, device_plan, run_id=run_id or uuid.uuid4().hex, link=Link(),
    )["stopped"]  # fmt: skip
    return final_checkpoint(Path(work_dir), stopped)


def finetune_in(
    folder: Path,
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
    plan = as_begun(plan, trainer.start)
    targets = check_finetuning(checkpoint, store, windows, splits, participants, label, trainer)
    loop = prepare(
        checkpoint, store, windows, splits, targets, head, plan, rates, regularisation, trainer,
        link=link, micro_batch=orders.micro_batch if orders is not None else None,
    )  # fmt: skip
    parent = checkpoint.metadata
    provenance = {
        "kind": "finetuned",
        "run_id": run_id,
        "started_at": started_at,
        "parent_version": parent.get("run_id") if not plan.from_scratch else None,
        "parameters": {
            "encoder": parent["parameters"]["encoder"],
            "head": head.model_dump(mode="json"),
            "plan": plan.model_dump(mode="json"),
            "rates": rates.model_dump(mode="json"),
            "regularisation": regularisation.model_dump(mode="json"),
            "trainer": trainer.model_dump(mode="json"),
            "label": label.model_dump(mode="json"),
        },
        "targets": {
            "names": list(targets.names),
            "is_regression": targets.is_regression,
            "mean": targets.mean,
            "sd": targets.sd,
        },
        "sfreq": parent["sfreq"],
        "n_samples": parent["n_samples"],
        "channel_names": list(store.channel_names),
        "training_subjects": sorted(
            {*subjects_of(splits, "train", windows), *parent["training_subjects"]}
        ),
        "validation_subjects": subjects_of(splits, "validation", windows),
        "store_fingerprint": store.fingerprint,
        "device_plan": device_plan,
        "versions": library_versions(),
        "precision": choose_precision(trainer.precision, accelerator(device)),
        "threads": threads(),
    }
    return {"stopped": fit(loop, trainer, device, Path(folder), provenance, link, resume)}


def prepare(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    targets: WindowTargets,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    *,
    link: Link | None = None,
    micro_batch: int | None = None,
) -> FineTuningLoop:
    """Make model, plan, curve and data; parameters as for `finetune`."""
    import torch

    from hbn_foundation.training.finetuning.data import LabelledWindows
    from hbn_foundation.training.finetuning.loop import FineTuningLoop

    link = link or Link()
    plan = as_begun(plan, trainer.start)
    values = targets.values
    if targets.is_regression:
        values = (values - targets.mean) / (targets.sd or 1.0)
    n_samples = checkpoint.metadata["n_samples"]
    data = {
        name: LabelledWindows(
            store, windows, subjects_of(splits, name, windows), n_samples, trainer.seed, values
        )
        for name in ("train", "validation")
    }
    model = make_model(checkpoint, head, targets, trainer.seed, plan.from_scratch)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    plain = data["train"].plain(256, trainer.probe_windows)
    model.fit_head(Told(plain, lambda: link.beat(START)), positions)
    blocks = [Block(name, size) for name, size in model.sizes().items()]
    if plan.from_scratch:
        rates = for_scratch(rates)
    return FineTuningLoop(
        model, data["train"], data["validation"], positions, trainer, regularisation,
        plan=make_plan(plan, blocks, trainer.epochs, is_regression=targets.is_regression),
        rates=rates,
        n_classes=None if targets.is_regression else len(targets.names),
        jitter=round(regularisation.jitter_seconds * store.sfreq), link=link,
        micro_batch=micro_batch,
    )  # fmt: skip


def make_model(
    checkpoint: Checkpoint, head: HeadParams, targets: WindowTargets, seed: int, scratch: bool
) -> FineTuned:
    """Put a new head on the checkpoint's encoder, or on one with random weights."""
    from hbn_foundation.models.finetuned import make_finetuned
    from hbn_foundation.training.checkpoint import load_encoder, random_encoder

    encoder: Encoder = random_encoder(checkpoint, seed) if scratch else load_encoder(checkpoint)
    with seeding.seeded(seed, seeding.WEIGHTS):
        model = make_finetuned(encoder, head, targets.n_outputs, not targets.is_regression)
    return model.train()
