"""Pretrain an encoder: from windows and splits to a checkpoint.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.models.params import EncoderParams
from hbn_foundation.progress import say
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.data import WindowsOfSubjects, subjects_of
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.precision import choose_precision

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.loop import PretrainingLoop

ALL_EPOCHS = "all epochs"
VERSIONED = ("torch", "lightning", "numpy", "pandas", "mne", "safetensors")


def pretrain(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame | None,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    window: WindowParams,
    run_id: str | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Pretrain an encoder on the training subjects, and keep the best epoch by validation loss.

    Parameters
    ----------
    store, windows
        Signals, and the windows cut from them.
    splits
        `subject` and `split`; subjects of the test split are never read.
    participants
        For labels from participants.tsv; else None.
    encoder, objective, trainer
        Parameters.
    device_plan
        `chosen` says where to train.
    work_dir
        Where the checkpoints `epoch-NNN` and `best` of this run go; older ones there are removed.
    window
        The parameters that the windows were cut with.
    run_id
        Named in the metadata; made up where not given.

    Returns
    -------
    Checkpoint
        Weights of the best epoch, with provenance.
    pandas.DataFrame
        One row per epoch: losses, the objective's scores and its trivial predictors' on the
        validation subjects, learning rate, speed, device.

    Raises
    ------
    UserError
        When a split has no windows, or parameters do not fit the data.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    loop = prepare(store, windows, splits, participants, encoder, objective, trainer, window)
    provenance = {
        "kind": "foundation",
        "run_id": run_id or uuid.uuid4().hex,
        "started_at": started_at,
        "parent_version": None,
        "objective": objective.name,
        "parameters": {
            "encoder": encoder.model_dump(mode="json"),
            "objective": objective.model_dump(mode="json"),
            "trainer": trainer.model_dump(mode="json"),
            "window": window.model_dump(mode="json"),
        },
        "sfreq": float(store.sfreq),
        "n_samples": loop.encoder.n_samples,
        "channel_names": list(store.channel_names),
        "training_subjects": subjects_of(splits, "train", windows),
        "validation_subjects": subjects_of(splits, "validation", windows),
        "store_fingerprint": store.fingerprint,
        "device_plan": device_plan,
        "versions": library_versions(),
        "precision": choose_precision(trainer.precision, device_plan["chosen"]),
        "threads": _threads(),  # sums over more of them differ in the last bit
    }
    return run(loop, trainer, device_plan["chosen"], Path(work_dir), provenance)


def prepare(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame | None,
    encoder_params: EncoderParams,
    objective_params: ObjectiveParams,
    trainer: TrainerParams,
    window: WindowParams,
) -> PretrainingLoop:
    """Make encoder, objective and data, and fit what is fitted before the first step."""
    import torch

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.training.loop import PretrainingLoop
    from hbn_foundation.training.objectives.make import make_objective

    n_samples = round(window.seconds * store.sfreq)
    train, validation = (subjects_of(splits, name, windows) for name in ("train", "validation"))
    with seeding.seeded(trainer.seed, seeding.WEIGHTS):
        try:
            encoder = Encoder(encoder_params, store.sfreq, n_samples)
        except ValueError as error:
            raise UserError(f"encoder: {error}") from None
        objective = make_objective(objective_params, encoder)
    prepared = objective.prepare(
        windows, participants, train, store.sfreq, trainer.seed, validation
    )
    data = {}
    for name, subjects in (("train", train), ("validation", validation)):
        data[name] = WindowsOfSubjects(
            store, prepared, subjects, n_samples, objective, trainer.seed
        )
        if data[name].windows.empty:
            raise UserError(
                f"objective: {objective_params.name} can use no window of the {name} subjects"
            )
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    batches = data["train"].plain(256, trainer.normalisation_windows)
    with torch.no_grad():
        statistics = encoder.fit_normalisation(batches, positions)
        objective.fit(statistics, batches, positions)
    jitter = round(objective_params.jitter_seconds * store.sfreq)
    return PretrainingLoop(
        encoder, objective, data["train"], data["validation"], positions, trainer, jitter
    )


def run(
    loop: PretrainingLoop,
    params: TrainerParams,
    device: str,
    work_dir: Path,
    provenance: dict[str, Any],
) -> tuple[Checkpoint, pd.DataFrame]:
    """Train until the epochs, the patience or the time is used up."""
    from hbn_foundation.training.callbacks import EpochCheckpoints, weights_of

    work_dir.mkdir(parents=True, exist_ok=True)
    for old in [*work_dir.glob("epoch-*"), work_dir / "best"]:
        shutil.rmtree(old, ignore_errors=True)

    def describe(row: dict[str, Any]) -> dict[str, Any]:
        scores = {name: value for name, value in row.items() if value == value}
        return {**provenance, "best_epoch": row["epoch"], "scores": scores}

    checkpoints = EpochCheckpoints(work_dir, params.checkpoint_every, params.keep_last, describe)
    with quiet_lightning(), seeding.seeded(params.seed, seeding.TRAINING):
        trainer = make_trainer(params, device, checkpoints)
        trainer.fit(loop)
    history = pd.DataFrame(loop.history)
    stopped = why_stopped(trainer, params)
    if stopped != ALL_EPOCHS and not history.empty:
        say(f"training stopped after epoch {len(history)} of {params.epochs}: {stopped}")
    if checkpoints.best_epoch is not None:
        checkpoint = Checkpoint.load(work_dir / "best")
        checkpoint.metadata["stopped"] = stopped
        return checkpoint, history
    if history.empty:
        raise UserError(
            f"trainer: max_training_time {params.max_training_time:g} s ended before the first "
            "epoch; expected time for one epoch at least"
        )
    say("no validation loss was finite or due: the last epoch's weights are kept")
    metadata = {**describe(loop.history[-1]), "stopped": stopped}
    return Checkpoint(weights_of(loop), metadata), history


def why_stopped(trainer: lightning.Trainer, params: TrainerParams) -> str:
    """Say in a few words what ended a training."""
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
                return f"no better validation for {params.early_stopping_patience} validations"
            if callback.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC:
                return "the validation loss is not finite"
    if trainer.should_stop or trainer.current_epoch < params.epochs:
        return f"time limit, max_training_time {params.max_training_time:g} s"
    return ALL_EPOCHS


def make_trainer(
    params: TrainerParams, device: str, checkpoints: lightning.Callback
) -> lightning.Trainer:
    """Lightning's trainer, without its own logs, bars and folders."""
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping

    from hbn_foundation.training.callbacks import History, Progress

    return lightning.Trainer(
        accelerator=device,
        devices=1,
        precision=choose_precision(params.precision, device),
        max_epochs=params.epochs,
        max_time=timedelta(seconds=params.max_training_time),
        accumulate_grad_batches=params.accumulate,
        check_val_every_n_epoch=params.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[
            History(),
            EarlyStopping(
                "validation_loss",
                patience=params.early_stopping_patience,
                strict=False,  # an epoch that the time limit cuts short has no validation
            ),
            checkpoints,
            Progress(params.epochs),
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice out of the log; errors still raise."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the weights depend on."""
    found = {"python": platform.python_version()}
    for name in ("hbn-foundation", *VERSIONED):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
