"""Between the epochs of fine-tuning: unfreezing, the best weights of a phase, patience."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor

from hbn_foundation.progress import say
from hbn_foundation.training.block_gradients import norm
from hbn_foundation.training.finetuning_module import FineTuningModule

REMEMBERED = ("best", "best_weights", "since_best", "grace_left", "ended")


class UnfreezingPhases(lightning.Callback):
    """Carries out the plan.

    The best weights since an unfreezing are the start of the next one where `restore_best` is set;
    patience restarts there, after some epochs of grace, so that the drop after an unfreezing does
    not stop the run.
    """

    state_key = "Phases"  # in the checkpoints of runs that can be resumed

    def __init__(self) -> None:
        self.best = math.inf
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.since_best = 0
        self.grace_left = 0
        self.ended = ""
        self.before: dict[str, list[Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {name: getattr(self, name) for name in REMEMBERED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in REMEMBERED:
            setattr(self, name, state_dict[name])

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Freeze as the plan begins, or as a resumed run left it."""
        pl_module.freeze_blocks()
        pl_module.ended = self.ended

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Tell the phase; the step of a resumed run is known by now."""
        log_phase(pl_module)
        if pl_module.plan.phase == 1 and (line := pl_module.plan.opening()):
            say(line)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Record the gradient norm of each block at the end of an epoch."""
        if trainer.is_last_batch:
            blocks = [(name, list(part.parameters())) for name, part in pl_module.model.blocks()]
            pl_module.gradient_norms = {name: norm(p.grad for p in part) for name, part in blocks}
            self.before = {name: [p.detach().clone() for p in part] for name, part in blocks}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average of the weights; record how far each block moved."""
        if pl_module.average_model is not None:
            pl_module.average_model.update_parameters(pl_module.model)
        before, self.before = self.before, {}
        if before:
            pl_module.update_norms = {
                name: relative_change(list(module.parameters()), before[name])
                for name, module in pl_module.model.blocks()
            }

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Judge the epoch; unfreeze, or stop."""
        if pl_module.partial:
            return
        plan, before = pl_module.plan, pl_module.plan.phase
        if pl_module.validation_scores:  # an epoch without a validation counts for nothing
            self._compare(pl_module)
        decision = plan.after_epoch(
            pl_module.history,
            pl_module.trainable,
            lambda: pl_module.score_gradients(plan.params.probe_batches),
        )
        pl_module.history[-1]["decision"] = decision.reason
        if decision.reason and not decision.unfreeze:
            say(decision.reason)
        if plan.phase > before and not decision.unfreeze:
            log_phase(pl_module)
        began = pl_module.curve.begins(pl_module.global_step)
        if began and not decision.unfreeze:
            say(began)
        if decision.unfreeze:
            self._begin(pl_module, decision.unfreeze, decision.reason)
        elif decision.stop:
            self.ended = pl_module.ended = decision.reason
            trainer.should_stop = True
        elif self.since_best >= pl_module.params.early_stopping_patience and not plan.is_waiting():
            trainer.should_stop = True
        pl_module.follow_curve()
        if trainer.should_stop or plan.done == plan.epochs:
            self._close(pl_module)

    def _close(self, pl_module: FineTuningModule) -> None:
        """Say, and put into the last row, what did not come about and what to try."""
        if line := pl_module.plan.closing(pl_module.rates.head_lr):
            pl_module.history[-1]["closing"] = line
            say(line)

    def _compare(self, pl_module: FineTuningModule) -> None:
        """Compare a validation with the best of the phase."""
        value = pl_module.monitored()
        if value < self.best:  # false for NaN
            self.best, self.since_best = value, 0
            self.best_weights = pl_module.remembered()
        elif self.grace_left > 0:
            self.grace_left -= 1
        else:
            self.since_best += 1
        if math.isfinite(value):
            pl_module.curve.plateau(value, pl_module.global_step)

    def _begin(self, pl_module: FineTuningModule, blocks: tuple[str, ...], reason: str) -> None:
        """Begin a phase with more blocks."""
        params = pl_module.plan.params
        if params.restore_best and self.best_weights:
            pl_module.restore(self.best_weights)
        schedule = pl_module.train_also(blocks)
        self.best, self.best_weights = math.inf, {}
        self.since_best, self.grace_left = 0, params.grace_epochs
        log_phase(pl_module, reason)
        say(schedule)


def log_phase(pl_module: FineTuningModule, reason: str = "") -> None:
    """Write a phase as a table of blocks, with their parameters and their rates at this step."""
    trainable = pl_module.model.trainable()
    sizes = pl_module.model.sizes()
    total = sum(size for name, size in sizes.items() if name in trainable)
    of_encoder = {block.name: block.n_parameters for block in pl_module.plan.backbone}
    encoder = sum(of_encoder.values())
    trained = sum(size for name, size in of_encoder.items() if name in trainable)
    share = f"{trained / encoder:.0%} of the encoder's {encoder:,}"
    phase = f"phase {pl_module.plan.phase}{f' ({reason})' if reason else ''}"
    say(
        f"{phase}: {total:,} parameters are trained, "
        f"{share}: {', '.join(name for name in sizes if name in trainable)}"
    )
    for name, size in sizes.items():
        rate = pl_module.curve.rate_text(name, pl_module.global_step)
        say(f"  {name:16} {size:>11,} parameters  {rate}")


def relative_change(now: list[Tensor], before: list[Tensor]) -> float:
    """Distance between two states of a block, relative to the earlier one's norm."""
    moved = norm([a.detach() - b for a, b in zip(now, before, strict=True)])
    return moved / max(norm(before), 1e-12)
