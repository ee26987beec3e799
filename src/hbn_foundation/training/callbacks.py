"""What happens beside the steps: checkpoints after epochs, and telling how it goes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from hbn_foundation.progress import say
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.loop import PretrainingLoop


def weights_of(loop: PretrainingLoop) -> dict[str, Tensor]:
    """Copy to the CPU all weights and buffers, as a checkpoint names them."""
    parts = {"encoder": loop.encoder, "objective": loop.objective}
    return {
        f"{part}.{name}": tensor.detach().cpu().clone()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


class History(lightning.Callback):
    """Close each epoch's row; stands before the callbacks that read it."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Add the row."""
        loop.close_epoch()


class EpochCheckpoints(lightning.Callback):
    """Write `epoch-NNN` every few epochs and `best` whenever validation is better than before.

    Parameters
    ----------
    directory
        Where to write.
    every
        Epochs between checkpoints.
    keep_last
        How many of `epoch-NNN` stay.
    describe
        Gives the metadata for the last row of the history.
    """

    def __init__(
        self,
        directory: Path,
        every: int,
        keep_last: int,
        describe: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self.directory = directory
        self.every = every
        self.keep_last = keep_last
        self.describe = describe
        self.best_loss = float("inf")
        self.best_epoch: int | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Save what is due; the row of this epoch is already in the history."""
        row = loop.history[-1]
        better = row["validation_loss"] < self.best_loss  # false for NaN
        due = (row["epoch"] + 1) % self.every == 0
        if not (better or due):
            return
        if better:
            self.best_loss, self.best_epoch = row["validation_loss"], row["epoch"]
        checkpoint = Checkpoint(weights_of(loop), self.describe(row))
        if better:
            checkpoint.save(self.directory / "best")
        if due:
            checkpoint.save(self.directory / f"epoch-{row['epoch']:03d}")
            for old in sorted(self.directory.glob("epoch-*"))[: -self.keep_last]:
                shutil.rmtree(old)


class Progress(lightning.Callback):
    """A bar on a terminal, a line per epoch otherwise."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bar: Any = None
        self.task: Any = None

    def on_train_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Draw the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as RichProgress

            self.bar = RichProgress(console=Console(stderr=True))
            self.bar.start()
            total = self.epochs * int(trainer.num_training_batches)
            self.task = self.bar.add_task("pretraining", total=total)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, loop: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            import time

            elapsed = max(time.monotonic() - loop.epoch_started, 1e-9)
            loss = float(outputs["loss"].detach())
            text = (
                f"epoch {trainer.current_epoch + 1}/{self.epochs} loss {loss:.3f} "
                f"{loop.average.size / elapsed:.0f} windows/s {loop.device.type}"
            )
            self.bar.update(self.task, advance=1, description=text)

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Tell the epoch in one line."""
        line = describe_epoch(loop.history[-1], self.epochs)
        if self.bar is None:
            say(line)
        else:
            self.bar.console.print(line, highlight=False)

    def on_fit_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Leave the bar."""
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, trainer: lightning.Trainer, loop: Any, exception: Any) -> None:
        """Leave the terminal as it was."""
        self.on_fit_end(trainer, loop)


def describe_epoch(row: dict[str, Any], epochs: int) -> str:
    """One line about an epoch, the trivial predictors beside the loss."""
    trivial = ", ".join(
        f"{name.removeprefix('trivial_').replace('_', ' ')} {value:.3f}"
        for name, value in row.items()
        if name.startswith("trivial_") and "accuracy" not in name
    )
    line = f"epoch {row['epoch'] + 1} of {epochs}: loss {row['train_loss']:.3f}"
    if row["validation_loss"] == row["validation_loss"]:
        line += f", validation {row['validation_loss']:.3f} (trivial: {trivial})"
    if "accuracy" in row:
        line += f", accuracy {row['accuracy']:.3f} (trivial {row['trivial_accuracy']:.3f})"
    return f"{line}, {row['windows_per_second']:.0f} windows/s on {row['device']}"
