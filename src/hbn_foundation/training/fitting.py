"""Run the training loop under Lightning, from its first or from a kept epoch to its end."""

from __future__ import annotations

import json
import logging
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
from hbn_foundation.training.checkpoint import METADATA_FILE, Checkpoint
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.link import STOPPED, TIME_IS_UP, TIME_LIMIT, Link
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    HISTORY,
    LAST,
    check_space,
    epochs_in,
)

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.training.training_loop import TrainingLoop

ALL_EPOCHS = "all epochs"


def fit(
    loop: TrainingLoop,
    params: RunParams,
    device: str,
    folder: Path,
    provenance: dict[str, Any],
    link: Link,
    resume_from: Path | None,
) -> str:
    """Train until the epochs, the patience or the time is used up, or somebody asks for the end.

    Parameters
    ----------
    loop
        What is trained, and its data.
    params
        How long, how precisely.
    device
        Of the run's plan; `simulated` is the CPU.
    folder
        Where `epoch-NNN`, `best` and `last` go.
    provenance
        Metadata of every checkpoint.
    link
        To the supervisor.
    resume_from
        An `epoch-NNN` to go on from; without one, checkpoints in the folder are removed.

    Returns
    -------
    str
        Why it ended, in a few words.
    """
    from hbn_foundation.training import callbacks
    from hbn_foundation.training.training_state import CheckpointFolders

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / BEST).exists():  # it was being replaced
        for former in folder.glob(f".{BEST}.*{OLD}"):
            former.rename(folder / BEST)
            break
    stale = [folder / LAST]
    for name in (BEST, LAST, "epoch-*"):  # temporary names that a killed process left
        stale += folder.glob(f".{name}.*")
    if resume_from is None:
        stale += [folder / BEST, *epochs_in(folder)]
        (folder / HISTORY).unlink(missing_ok=True)
    for old in stale:
        shutil.rmtree(old, ignore_errors=True)
    if resume_from is not None:
        _tell_other_arithmetic(resume_from, provenance)
    check_space(folder, *loop.checkpoint_sizes(), params.keep_last)
    checkpoints = callbacks.EpochCheckpoints(
        folder, params.checkpoint_every, params.keep_last, link, provenance
    )
    link.limit(params.max_training_time)
    with (
        Display() as display,
        quiet_lightning(),
        algorithms_as_before(),
        seeding.seeded(params.seed, seeding.TRAINING),
    ):
        if link.orders is None:  # nobody else draws
            link.show = display.show
        trainer = make_trainer(
            params,
            device,
            [
                callbacks.History(device),
                callbacks.Lines(params.epochs, display.line),
                callbacks.Beats(link, params.epochs, device),
                checkpoints,
            ],
            CheckpointFolders(checkpoints.metadata),
        )
        trainer.fit(loop, ckpt_path=str(resume_from) if resume_from is not None else None)
    stopped = why_stopped(loop, params)
    if stopped != ALL_EPOCHS and loop.history:
        where = "in" if loop.partial else "after"
        why = "as asked" if stopped == STOPPED else stopped
        say(f"training stopped {where} epoch {len(loop.history)} of {params.epochs}: {why}")
    return stopped


def _tell_other_arithmetic(resume_from: Path, provenance: dict[str, Any]) -> None:
    """Say so where the epochs to come may differ in the last bit from those of an undisturbed run.

    Sums over more threads are in another order, and so they may be in another version of a library.
    """
    before = json.loads((resume_from / METADATA_FILE).read_text())
    there = {**before.get("versions", {}), "threads": before.get("threads")}
    here = {**provenance.get("versions", {}), "threads": provenance.get("threads")}
    changes = [f"{name} {there[name]} before and {here[name]} now"
               for name in there if name in here and there[name] != here[name]]  # fmt: skip
    if changes:
        say(f"going on with {', '.join(changes)}: weights may differ in their last bits")


def final_checkpoint(folder: Path, stopped: str) -> tuple[Checkpoint, pd.DataFrame]:
    """Load what a run leaves: the best weights by what is monitored, and the history.

    The weights of an epoch that was cut short count where they are better; without a validation
    the last epoch's.

    Raises
    ------
    UserError
        When there is neither.
    """
    found: dict[Path, float] = {}
    for name in (BEST, LAST):
        if (folder / name / METADATA_FILE).is_file():
            metadata = json.loads((folder / name / METADATA_FILE).read_text())
            found[folder / name] = metadata.get("monitored", float("inf"))
    if not found:
        raise UserError(
            f"trainer: {stopped}, before the first epoch; expected time for a step at least"
        )
    history = pd.DataFrame(json.loads((folder / HISTORY).read_text()))
    checkpoint = Checkpoint.load(min(found, key=lambda path: found[path]))
    checkpoint.metadata["stopped"] = stopped
    return checkpoint, history


def why_stopped(loop: TrainingLoop, params: RunParams) -> str:
    """Say in a few words what ended a training."""
    if loop.cut_short == TIME_LIMIT:
        return f"{TIME_IS_UP}, max_training_time {params.max_training_time:g} s"
    if loop.cut_short == STOPPED:
        return STOPPED
    if len(loop.history) >= params.epochs:
        return ALL_EPOCHS
    if loop.ended:
        return loop.ended
    last = loop.history[-1]["validation_loss"] if loop.history else float("nan")
    if last != last or abs(last) == float("inf"):
        return "the validation loss is not finite"
    return f"no better validation for {params.early_stopping_patience} validations"


def make_trainer(
    params: RunParams,
    device: str,
    callbacks: list[lightning.Callback],
    plugin: Any,
) -> lightning.Trainer:
    """Lightning's trainer, without its own logs, bars and folders."""
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
    """Lightning's name of a plan's device."""
    return "cpu" if device == "simulated" else device


@contextmanager
def algorithms_as_before() -> Iterator[None]:
    """Undo what a trainer says of deterministic algorithms, which is of the whole process."""
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
