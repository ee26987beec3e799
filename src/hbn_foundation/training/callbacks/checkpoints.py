"""Checkpoints after epochs."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, cast

import lightning
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback

from hbn_foundation.files import write_json
from hbn_foundation.progress import say
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.checkpoint_io import CheckpointFolders
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.supervision.heartbeat import CHECKPOINT, STEP
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    HISTORY,
    LAST,
    METADATA,
    damage,
    epochs_in,
)


class EpochCheckpoints(CheckpointCallback):
    """Write `epoch-NNN` every few epochs, `best` when validation is better, `last` at a cut.

    `checkpoint_every` and `checkpoint_keep` of the parameters say which epochs.

    `epoch-NNN` also has the state of training, so that a run resumes from it bit by bit. Of an
    incomplete epoch only the weights are written, as `last`, and so it is as long as nothing
    was validated. `best` is always of an epoch in the history: after a crash between two writes,
    what belongs to an epoch that is trained again is replaced. `provenance` is metadata of all of
    them.
    """

    def __init__(
        self, folder: Path, params: RunParams, link: Link, provenance: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.every = params.checkpoint_every
        self.keep = params.checkpoint_keep
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
        """Return what a resumed run must know."""
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.state = {**self.state, **state_dict}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Make history, `best` and `last` those of the epoch that training resumes from."""
        if not pl_module.history:
            return
        self._write_history(pl_module)
        self.row, self.monitored = pl_module.history[-1], self.state["monitored"]
        epoch = self.state["best_epoch"]
        if epoch is None or self._epoch_of_best() != epoch:
            shutil.rmtree(self.folder / BEST, ignore_errors=True)
            self._replace_best(pl_module, epoch)

    def _epoch_of_best(self) -> int | None:
        """Return the epoch whose weights are the best; None without a complete `best`."""
        if damage(self.folder / BEST) is not None:
            return None
        return int(json.loads((self.folder / BEST / METADATA).read_text())["best_epoch"])

    def _replace_best(self, pl_module: Any, epoch: int | None) -> None:
        """Write the weights of the best epoch again, or else of the one that training is at."""
        kept = self.folder / f"epoch-{epoch:03d}" if epoch is not None else None
        if kept is not None and epoch != self.row["epoch"] and damage(kept) is None:
            here = self.row, self.monitored, copy.deepcopy(pl_module.state_dict())
            self.row = next(row for row in pl_module.history if row["epoch"] == epoch)
            self.monitored = self.state["best"]
            pl_module.load_state_dict(Checkpoint.load(kept).weights)
            self._save_weights(pl_module, BEST)
            self.row, self.monitored, weights = here
            pl_module.load_state_dict(weights)
            return
        self.state |= {"best": float("inf"), "best_epoch": None}
        self._record_best()
        self._save_weights(pl_module, LAST if self.state["best_epoch"] is None else BEST)

    def _record_best(self) -> bool:
        """Return whether this epoch is the best so far, and record it."""
        better: bool = self.monitored < self.state["best"]  # false for NaN
        if better:
            self.state |= {"best": self.monitored, "best_epoch": self.row["epoch"]}
        return better

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop at once where patience had ended before the run died."""
        trainer.should_stop = self.state["ends"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save what is due; the row of this epoch is already in the history."""
        self.link.beat(CHECKPOINT)
        plugin = cast(CheckpointFolders, trainer.strategy.checkpoint_io)
        self.row = row = pl_module.history[-1]
        reason = self.link.asked_to_stop  # after patience has been asked, which comes first
        over = trainer.should_stop or row["epoch"] == trainer.max_epochs
        if reason is not None and not over:
            pl_module.cut_short, trainer.should_stop = reason, True
        self.monitored = self.state["monitored"] = pl_module.monitored()
        self._write_history(pl_module)
        if pl_module.partial:
            plugin.save_held()  # the last complete epoch, if it was not due
            self._remove_old_epochs()
            self._save_weights(pl_module, LAST)
            return
        ends = trainer.should_stop or row["epoch"] == trainer.max_epochs
        self.state["ends"] = trainer.should_stop and pl_module.cut_short is None
        better = self._record_best()
        plugin.hold = row["epoch"] % self.every != 0 and not ends
        trainer.save_checkpoint(self.folder / f"epoch-{row['epoch']:03d}")
        self.link.beat(CHECKPOINT, best_epoch=self.state["best_epoch"])
        if better:  # after the epoch, from which it can be written again
            self._save_weights(pl_module, BEST)
            shutil.rmtree(self.folder / LAST, ignore_errors=True)
        elif self.state["best_epoch"] is None:
            self._save_weights(pl_module, LAST)
            if ends:
                say("no validation loss was finite or due: the last epoch's weights are kept")
        self._remove_old_epochs()
        self.link.beat(STEP)

    def _write_history(self, pl_module: Any) -> None:
        write_json(self.folder / HISTORY, pl_module.history)

    def _remove_old_epochs(self) -> None:
        if self.keep != "all":
            for old in epochs_in(self.folder)[: -self.keep]:
                shutil.rmtree(old)

    def _save_weights(self, pl_module: Any, name: str) -> None:
        Checkpoint(pl_module.exported(), self.metadata()).save(self.folder / name)
