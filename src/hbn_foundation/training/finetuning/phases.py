"""What happens between epochs of fine-tuning: unfreezing, the best weights back, patience."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor

from hbn_foundation.progress import say
from hbn_foundation.training.finetuning.loop import FineTuningLoop

REMEMBERED = ("phase", "best", "best_weights", "since_best", "grace_left", "ended")


class Phases(lightning.Callback):
    """Carries out the plan.

    A phase lasts from one unfreezing to the next. The best weights of a phase are the start of the
    next one, where that is wanted; patience begins anew in each, after some epochs of grace, so
    that the drop that an unfreezing brings stops nothing.
    """

    def __init__(self) -> None:
        self.phase = 1
        self.best = math.inf
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.since_best = 0
        self.grace_left = 0
        self.ended = ""
        self.before: dict[str, list[Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run must know."""
        return {name: getattr(self, name) for name in REMEMBERED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up."""
        for name in REMEMBERED:
            setattr(self, name, state_dict[name])

    def on_fit_start(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Freeze as the plan begins, or as a resumed run left it."""
        loop.freeze_blocks()
        loop.ended = self.ended
        tell_phase(self.phase, loop)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, loop: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the gradient norm of each block at the end of an epoch."""
        if trainer.is_last_batch:
            loop.gradient_norms = norms(loop.model, lambda parameter: parameter.grad)
            self.before = {
                name: [parameter.detach().clone() for parameter in module.parameters()]
                for name, module in loop.model.blocks()
            }

    def on_train_batch_end(
        self, trainer: lightning.Trainer, loop: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow with the average of the weights; note how far each block moved."""
        if loop.average_model is not None:
            loop.average_model.update_parameters(loop.model)
        before, self.before = self.before, {}
        if before:
            loop.update_norms = {
                name: relative_change(list(module.parameters()), before[name])
                for name, module in loop.model.blocks()
            }

    def on_train_epoch_end(self, trainer: lightning.Trainer, loop: Any) -> None:
        """Judge the epoch; unfreeze, or stop."""
        if loop.partial:
            return
        if loop.validation_scores:  # no validation, where none is due, is no bad one
            self._compare(loop)
        decision = loop.plan.after_epoch(
            loop.history,
            loop.trainable,
            lambda: loop.score_gradients(loop.plan.params.probe_batches),
        )
        if decision.unfreeze:
            self._begin(loop, decision.unfreeze, decision.reason)
        elif decision.stop:
            self.ended = loop.ended = decision.reason
            trainer.should_stop = True
        elif self.since_best >= loop.params.early_stopping_patience and not loop.plan.is_waiting():
            trainer.should_stop = True

        loop.follow_curve()

    def _compare(self, loop: FineTuningLoop) -> None:
        """Compare a validation with the best of the phase."""
        value = loop.monitored()
        if value < self.best:  # false for NaN
            self.best, self.since_best = value, 0
            self.best_weights = loop.remembered()
        elif self.grace_left > 0:
            self.grace_left -= 1
        else:
            self.since_best += 1
        loss = loop.history[-1]["validation_loss"]
        if math.isfinite(loss):
            loop.curve.plateau(loss)

    def _begin(self, loop: FineTuningLoop, blocks: tuple[str, ...], reason: str) -> None:
        """Begin a phase with more blocks."""
        if loop.plan.params.restore_best and self.best_weights:
            loop.go_back(self.best_weights)
        loop.train_also(blocks)
        self.phase += 1
        self.best, self.best_weights = math.inf, {}
        self.since_best, self.grace_left = 0, loop.plan.params.grace_epochs
        tell_phase(self.phase, loop, reason)


def tell_phase(phase: int, loop: FineTuningLoop, reason: str = "") -> None:
    """Tell a phase as a table of blocks with their parameters and rates."""
    trainable = set(loop.model.trainable())
    sizes = loop.model.sizes()
    total = sum(size for name, size in sizes.items() if name in trainable)
    text = f"phase {phase}{f' ({reason})' if reason else ''}: {total:,} parameters are trained"
    say(text)
    for name, size in sizes.items():
        state = f"rate up to {loop.curve.peaks[name]:.2e}" if name in trainable else "frozen"
        say(f"  {name:16} {size:>11,} parameters  {state}")


def norms(model: Any, value_of: Any) -> dict[str, float]:
    """Norm over the parameters of each block of what `value_of` gives for each."""
    found = {}
    for name, module in model.blocks():
        values = [value_of(parameter) for parameter in module.parameters()]
        squares = [value.detach().square().sum() for value in values if value is not None]
        found[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return found


def relative_change(now: list[Tensor], before: list[Tensor]) -> float:
    """Distance between two states of a block, relative to the earlier one's norm."""
    if not now:
        return 0.0
    now = [value.detach() for value in now]
    moved = torch.stack([(a - b).square().sum() for a, b in zip(now, before, strict=True)]).sum()
    size = torch.stack([b.square().sum() for b in before]).sum()
    return float((moved / size.clamp_min(1e-24)).sqrt())
