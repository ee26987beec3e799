"""What happens beside the steps: beats, checkpoints after epochs, and a line about each."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
import lightning.pytorch.callbacks
import torch

from hbn_foundation.files import renamed_when_done
from hbn_foundation.progress import duration, say
from hbn_foundation.training.checkpoint import Checkpoint as ModelCheckpoint
from hbn_foundation.training.supervision.faults import OOM_EVALUATION
from hbn_foundation.training.supervision.heartbeat import CHECKPOINT, FIRST_STEP, STEP
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    HISTORY,
    LAST,
    METADATA,
    damage,
    epochs_in,
)
from hbn_foundation.training.training_state import CheckpointFolders

#: Metrics of fine-tuning that the line of an epoch names.
TOLD = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "nrmse": "NRMSE", "r": "r"}


class History(lightning.Callback):
    """Close each epoch's row; stands before the callbacks that read it."""

    def __init__(self, device: str) -> None:
        self.device = device

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Add the row."""
        loop.close_epoch(self.device)


class Beats(lightning.Callback):
    """Tell the supervisor of every step, and stop where it asks.

    Parameters
    ----------
    link
        To the supervisor.
    epochs
        How many there are to be.
    device
        Its name in the device plan.
    """

    def __init__(self, link: Link, epochs: int, device: str) -> None:
        self.link = link
        self.epochs = epochs
        self.device = device
        self.began = 0.0

    def on_train_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Tell that the first step begins; it may take long."""
        if self.link.orders is not None:
            self.link.listen()  # Lightning has put a handler of its own there, which raises
        self.link.beat(
            FIRST_STEP,
            epochs=self.epochs,
            steps=loop.steps_per_epoch * self.epochs,
            step=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            device=self.device,
        )

    def on_train_batch_start(
        self, trainer: lightning.Trainer, loop: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time; let an ordered fault happen."""
        self.began = time.monotonic()
        fault = self.link.fault_due(trainer.global_step + 1)
        if fault is not None and fault.kind != OOM_EVALUATION:
            fault.strike(loop.micro_batch / loop.batch_size)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, loop: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Beat when the device is really done; stop if that is asked for."""
        loss = outputs["loss"].detach() if outputs else None
        synchronise(loop.device)
        now = time.monotonic()
        self.link.step_done(
            now - self.began,
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            loss=None if loss is None else float(loss),
            windows_per_second=loop.average.size / max(now - loop.epoch_started, 1e-9),
            learning_rates={
                group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups
            },
        )
        reason = self.link.asked_to_stop
        if reason is not None and batch_idx + 1 < trainer.num_training_batches:
            loop.cut_short, loop.partial = reason, True
            trainer.should_stop = True


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class EpochCheckpoints(lightning.pytorch.callbacks.Checkpoint):
    """Write `epoch-NNN` every few epochs, `best` when validation is better, `last` at a cut.

    `epoch-NNN` also has the state of training, so that a run can go on from it bit by bit. Of an
    epoch that is not whole only the weights are written, as `last`, and so it is as long as nothing
    was validated. `best` is always of an epoch in the history: after a crash between two writes,
    what belongs to an epoch that is trained anew is replaced.

    Parameters
    ----------
    folder
        Where to write.
    every
        Epochs between checkpoints.
    keep_last
        How many of `epoch-NNN` stay.
    link
        To the supervisor.
    provenance
        Metadata of every checkpoint.
    """

    def __init__(
        self, folder: Path, every: int, keep_last: int, link: Link, provenance: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.every = every
        self.keep_last = keep_last
        self.link = link
        self.provenance = provenance
        self.row: dict[str, Any] = {}
        self.monitored = float("nan")
        self.state: dict[str, Any] = {"best": float("inf"), "best_epoch": None, "ends": False}
        self.state["monitored"] = self.monitored

    def metadata(self) -> dict[str, Any]:
        """Metadata of a checkpoint after the epoch of `row`."""
        scores = {name: value for name, value in self.row.items() if value == value}
        found = {"best_epoch": self.row["epoch"], "scores": scores}
        if self.monitored == self.monitored:
            found["monitored"] = self.monitored
        return {**self.provenance, **found}

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run must know."""
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up."""
        self.state = {**self.state, **state_dict}

    def on_fit_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Make history, `best` and `last` those of the epoch that training goes on from."""
        if not loop.history:
            return
        self._write_history(loop)
        self.row, self.monitored = loop.history[-1], self.state["monitored"]
        epoch = self.state["best_epoch"]
        if epoch is None or self._epoch_of_best() != epoch:
            shutil.rmtree(self.folder / BEST, ignore_errors=True)
            self._replace_best(loop, epoch)

    def _epoch_of_best(self) -> int | None:
        """Tell the epoch whose weights are the best; None without a whole `best`."""
        if damage(self.folder / BEST) is not None:
            return None
        return int(json.loads((self.folder / BEST / METADATA).read_text())["best_epoch"])

    def _replace_best(self, loop: Any, epoch: int | None) -> None:
        """Write the weights of the best epoch again, or else of the one that training is at."""
        kept = self.folder / f"epoch-{epoch:03d}" if epoch is not None else None
        if kept is not None and epoch != self.row["epoch"] and damage(kept) is None:
            here = self.row, self.monitored, copy.deepcopy(loop.state_dict())
            self.row = next(row for row in loop.history if row["epoch"] == epoch)
            self.monitored = self.state["best"]
            loop.load_state_dict(ModelCheckpoint.load(kept).weights)
            self._save_weights(loop, BEST)
            self.row, self.monitored, weights = here
            loop.load_state_dict(weights)
            return
        self.state |= {"best": float("inf"), "best_epoch": None}
        self._note_best()
        self._save_weights(loop, LAST if self.state["best_epoch"] is None else BEST)

    def _note_best(self) -> bool:
        """Tell whether this epoch is the best so far, and note it."""
        better: bool = self.monitored < self.state["best"]  # false for NaN
        if better:
            self.state |= {"best": self.monitored, "best_epoch": self.row["epoch"]}
        return better

    def on_train_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """End at once, when patience was at its end as the run died."""
        trainer.should_stop = self.state["ends"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Save what is due; the row of this epoch is already in the history."""
        self.link.beat(CHECKPOINT)
        plugin = cast(CheckpointFolders, trainer.strategy.checkpoint_io)
        self.row = row = loop.history[-1]
        reason = self.link.asked_to_stop  # after patience has been asked, which comes first
        over = trainer.should_stop or row["epoch"] == trainer.max_epochs
        if reason is not None and not over:
            loop.cut_short, trainer.should_stop = reason, True
        self.monitored = self.state["monitored"] = loop.monitored()
        self._write_history(loop)
        if loop.partial:
            plugin.save_held()  # the last whole epoch, if it was not due
            self._thin_out()
            self._save_weights(loop, LAST)
            return
        ends = trainer.should_stop or row["epoch"] == trainer.max_epochs
        self.state["ends"] = trainer.should_stop and loop.cut_short is None
        better = self._note_best()
        plugin.hold = row["epoch"] % self.every != 0 and not ends
        trainer.save_checkpoint(self.folder / f"epoch-{row['epoch']:03d}")
        self.link.beat(CHECKPOINT)
        if better:  # behind the epoch, from which it can be written again
            self._save_weights(loop, BEST)
            shutil.rmtree(self.folder / LAST, ignore_errors=True)
        elif self.state["best_epoch"] is None:
            self._save_weights(loop, LAST)
            if ends:
                say("no validation loss was finite or due: the last epoch's weights are kept")
        self._thin_out()
        self.link.beat(STEP)

    def _write_history(self, loop: Any) -> None:
        with renamed_when_done(self.folder / HISTORY) as temporary:
            temporary.write_text(json.dumps(loop.history))

    def _thin_out(self) -> None:
        for old in epochs_in(self.folder)[: -self.keep_last]:
            shutil.rmtree(old)

    def _save_weights(self, loop: Any, name: str) -> None:
        ModelCheckpoint(loop.exported(), self.metadata()).save(self.folder / name)


class Lines(lightning.Callback):
    """Tell each epoch in one line, with the time that the others take if they take as long.

    Parameters
    ----------
    epochs
        How many there are to be.
    tell
        Where to.
    """

    def __init__(self, epochs: int, tell: Callable[[str], None]) -> None:
        self.epochs = epochs
        self.tell = tell
        self.ended = 0.0

    def on_train_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Note the time."""
        self.ended = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Tell it."""
        took, self.ended = time.monotonic() - self.ended, time.monotonic()
        left = self.epochs - loop.history[-1]["epoch"]
        line = describe_epoch(loop.history[-1], self.epochs, loop.partial)
        self.tell(f"{line}, {duration(left * took)} left" if left and not loop.partial else line)


def describe_epoch(row: dict[str, Any], epochs: int, partial: bool = False) -> str:
    """One line about an epoch, the trivial predictors beside the loss."""
    trivial = ", ".join(
        f"{name.removeprefix('trivial_').replace('_', ' ')} {value:.3f}"
        for name, value in row.items()
        if name.startswith("trivial_") and "accuracy" not in name
    )
    cut = ", cut short" if partial else ""
    line = f"epoch {row['epoch']} of {epochs}{cut}: loss {row['train_loss']:.3f}"
    if row["validation_loss"] == row["validation_loss"]:
        line += f", validation {row['validation_loss']:.3f}" + (
            f" (trivial: {trivial})" * bool(trivial)
        )
    if "trivial_accuracy" in row:
        line += f", accuracy {row['accuracy']:.3f} (trivial {row['trivial_accuracy']:.3f})"
    for name, words in TOLD.items():
        if name in row:
            line += f", {words} {row[name]:.3f}"
    return f"{line}, {row['windows_per_second']:.0f} windows/s on {row['device']}"
