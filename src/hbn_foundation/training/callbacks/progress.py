"""Progress of a training: beats to the supervisor, and a line about each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import lightning
import torch

from hbn_foundation.progress import duration
from hbn_foundation.training.callbacks.checkpoints import EpochCheckpoints
from hbn_foundation.training.supervision.faults import OOM_EVALUATION
from hbn_foundation.training.supervision.heartbeat import FIRST_STEP
from hbn_foundation.training.supervision.link import Link

#: Metrics of fine-tuning that the line of an epoch names, beside the one that is judged.
NAMED = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "nrmse": "NRMSE", "r": "r"}


class EpochLog(lightning.Callback):
    """Close each epoch's row and write a line about it, before other callbacks read the row."""

    def __init__(self, epochs: int, device: str, write: Callable[[str], None]) -> None:
        self.epochs = epochs
        self.device = device
        self.write = write
        self.ended = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.ended = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Add the row and write the line, with the time left at the pace of this epoch."""
        pl_module.close_epoch(self.device)
        took, self.ended = time.monotonic() - self.ended, time.monotonic()
        row = pl_module.history[-1]
        left = self.epochs - row["epoch"]
        line = describe_epoch(row, self.epochs, pl_module.partial, pl_module.judged)
        if left and not pl_module.partial:
            line += f", {duration(left * took)} left"
        self.write(line)


def describe_epoch(
    row: dict[str, Any], epochs: int, partial: bool = False, judged: str = ""
) -> str:
    """One line about an epoch: trivial predictors beside the loss, the judged metric."""
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
    named = {judged: judged} | NAMED
    if "trivial_accuracy" in row:
        line += f", accuracy {row['accuracy']:.3f} (trivial {row['trivial_accuracy']:.3f})"
        named.pop("accuracy", None)
    for name, words in named.items():
        if name in row:
            line += f", {words} {row[name]:.3f}"
    return f"{line}, {row['windows_per_second']:.0f} windows/s on {row['device']}"


class Beats(lightning.Callback):
    """Send a beat to the supervisor after every step, and stop where it asks."""

    def __init__(self, link: Link, epochs: int, device: str) -> None:
        self.link = link
        self.epochs = epochs
        self.device = device
        self.began = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Announce the first step, which may take long."""
        if self.link.orders is not None:
            self.link.listen()  # Lightning's own handler raises
        self.link.beat(
            FIRST_STEP,
            epochs=self.epochs,
            steps=pl_module.data.steps_per_epoch * self.epochs,
            step=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            device=self.device,
            judged=pl_module.judged,
            best_by=pl_module.best_by,
            best_epoch=cast(EpochCheckpoints, trainer.checkpoint_callback).state["best_epoch"],
        )

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of the step; trigger an ordered fault."""
        self.began = time.monotonic()
        fault = self.link.fault_due(trainer.global_step + 1)
        if fault is not None and fault.kind != OOM_EVALUATION:
            fault.inject(pl_module.data.micro_batch / pl_module.data.batch_size)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Beat when the device has finished the step; stop if a stop is requested."""
        loss = outputs["loss"].detach() if outputs else None
        synchronise(pl_module.device)
        now = time.monotonic()
        self.link.step_done(
            now - self.began,
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            phase=pl_module.phase,
            loss=None if loss is None else float(loss),
            windows_per_second=pl_module.average.size / max(now - pl_module.epoch_started, 1e-9),
            learning_rates={
                group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups
            },
        )
        reason = self.link.asked_to_stop
        if reason is not None and batch_idx + 1 < trainer.num_training_batches:
            pl_module.cut_short, pl_module.partial = reason, True
            trainer.should_stop = True


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
