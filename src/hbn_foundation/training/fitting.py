"""Run a training under Lightning, from its first or from a kept epoch, and read back the result."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import OLD
from hbn_foundation.progress import say
from hbn_foundation.training import seeding
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.link import STOPPED, TIME_IS_UP, TIME_LIMIT
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    HISTORY,
    LAST,
    METADATA,
    check_space,
    epochs_in,
)

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.module import TrainingModule

ALL_EPOCHS = "all epochs"
VERSIONED = ("torch", "lightning", "numpy", "pandas", "scipy", "scikit-learn", "mne", "safetensors")


def fit(
    module: TrainingModule,
    folder: Path,
    device: str,
    provenance: dict[str, Any],
    callbacks: list[lightning.Callback],
    resume_from: Path | None,
) -> str:
    """Train until the epochs, the patience or the time is used up, or a stop is asked for.

    `epoch-NNN`, `best` and `last` go into the folder, with `provenance` as metadata; checkpoints
    that are there are removed where none of them is resumed from. Returns why it ended, in a few
    words.
    """
    from hbn_foundation.training.callbacks.checkpoints import EpochCheckpoints
    from hbn_foundation.training.callbacks.progress import Beats, EpochLog
    from hbn_foundation.training.callbacks.tracking import Tracking
    from hbn_foundation.training.checkpoint_io import CheckpointFolders

    params, link = module.params, module.link
    clean_folder(folder, resume_from)
    check_space(folder, *module.checkpoint_sizes(), params.epochs_kept)
    link.limit(params.max_training_time)
    checkpoints = EpochCheckpoints(folder, params, link, provenance)
    with (
        Display() as display,
        quiet_lightning(),
        algorithms_restored(),
        seeding.seeded(params.seed, seeding.TRAINING),
    ):
        if link.orders is None:  # no supervisor draws
            link.show = display.show
        trainer = make_trainer(
            params,
            device,
            [
                EpochLog(params.epochs, device, display.line),
                Beats(link, params.epochs, device),
                *([] if params.tracking == "none" else [Tracking(params, provenance, folder)]),
                *callbacks,
                checkpoints,
            ],
            CheckpointFolders(checkpoints.metadata),
        )
        resume = str(resume_from) if resume_from is not None else None
        trainer.fit(module, datamodule=module.data, ckpt_path=resume)
    stopped = why_stopped(module, params)
    if stopped != ALL_EPOCHS and module.history:
        where = "in" if module.partial else "after"
        why = "as asked" if stopped == STOPPED else stopped
        say(f"training stopped {where} epoch {len(module.history)} of {params.epochs}: {why}")
    return stopped


def clean_folder(folder: Path, resume_from: Path | None) -> None:
    """Remove what an earlier run or attempt left, except what this one resumes from."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / BEST).exists():  # the process was killed while it replaced `best`
        for former in folder.glob(f".{BEST}.*{OLD}"):
            former.rename(folder / BEST)
            break
    stale = [folder / LAST]
    for name in (BEST, LAST, "epoch-*"):  # temporary folders of a killed process
        stale += folder.glob(f".{name}.*")
    if resume_from is None:
        stale += [folder / BEST, *epochs_in(folder)]
        (folder / HISTORY).unlink(missing_ok=True)
    for old in stale:
        shutil.rmtree(old, ignore_errors=True)


def final_checkpoint(folder: Path, stopped: str) -> tuple[Checkpoint, pd.DataFrame]:
    """Load the result of a run: the best weights by the monitored value, and the history.

    The weights of an epoch that was cut short count where they are better; without a validation,
    those of the last epoch are taken.

    Raises
    ------
    UserError
        When no epoch was started.
    """
    from hbn_foundation.training.checkpoint import Checkpoint

    found: dict[Path, float] = {}
    for name in (BEST, LAST):
        if (folder / name / METADATA).is_file():
            metadata = json.loads((folder / name / METADATA).read_text())
            found[folder / name] = metadata.get("monitored", float("inf"))
    if not found:
        raise UserError(
            f"trainer: {stopped}, before the first epoch; expected time for at least one step"
        )
    history = pd.DataFrame(json.loads((folder / HISTORY).read_text()))
    checkpoint = Checkpoint.load(min(found, key=lambda path: found[path]))
    checkpoint.metadata["stopped"] = stopped
    return checkpoint, history


def why_stopped(module: TrainingModule, params: RunParams) -> str:
    """Return in a few words what ended a training."""
    if module.cut_short == TIME_LIMIT:
        return f"{TIME_IS_UP}, max_training_time {params.max_training_time:g} s"
    if module.cut_short == STOPPED:
        return STOPPED
    if len(module.history) >= params.epochs:
        return ALL_EPOCHS
    if module.ended:
        return module.ended
    last = module.history[-1]["validation_loss"] if module.history else float("nan")
    if last != last or abs(last) == float("inf"):
        return "the validation loss is not finite"
    return f"no better validation for {params.early_stopping_patience} validations"


def make_trainer(
    params: RunParams, device: str, callbacks: list[lightning.Callback], plugin: Any
) -> lightning.Trainer:
    """Make Lightning's trainer, without its own logs, bars and folders."""
    import lightning

    return lightning.Trainer(
        accelerator=accelerator(device),
        devices=1,
        precision=choose_precision(params.precision, accelerator(device)),
        deterministic=params.deterministic and accelerator(device) == "cuda",
        max_epochs=params.epochs,
        check_val_every_n_epoch=params.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[plugin],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def accelerator(device: str) -> str:
    """Return Lightning's name of a plan's device; `simulated` is the CPU."""
    return "cpu" if device == "simulated" else device


@contextmanager
def algorithms_restored() -> Iterator[None]:
    """Restore the choice of deterministic algorithms, which a trainer makes for the process."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


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


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the weights depend on."""
    found = {"python": platform.python_version()}
    for name in ("hbn-foundation", *VERSIONED):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
