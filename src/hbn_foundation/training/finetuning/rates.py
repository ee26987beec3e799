"""The learning rate of each block as a pure function of the step and of what was unfrozen when.

rate(block, step) = peak(block) · shape(step) · ramp(step - unfrozen_at(block))

One optimizer and one `LambdaLR` live through the whole run; only the shape changes, and only at an
unfreezing: a cosine goes on over the steps that are left, from where it stands or, where that is
too low to learn with, from the peak. OneCycle is never begun again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hbn_foundation.training.finetuning.params import RateParams
from hbn_foundation.training.finetuning.plans.base import Block
from hbn_foundation.training.finetuning.rate_shapes import cosine, onecycle, warmup
from hbn_foundation.training.finetuning.stall import Stall


def peaks(blocks: Sequence[Block], params: RateParams) -> dict[str, float]:
    """Peak learning rate of each block.

    Parameters
    ----------
    blocks
        In forward order, the head last.
    params
        The encoder's last block has `backbone_peak`, each one before it `layer_decay` of the next
        one's (discriminative rates, Howard & Ruder 2018).

    Returns
    -------
    dict
        In forward order.
    """
    depth = len(blocks) - 2
    found = {
        block.name: params.backbone_peak * params.layer_decay ** (depth - number)
        for number, block in enumerate(blocks[:-1])
    }
    return {**found, blocks[-1].name: params.head_lr}


def for_scratch(params: RateParams) -> RateParams:
    """Give all blocks the head's rate, as random weights need it."""
    return params.model_copy(update={"backbone_lr": params.head_lr, "layer_decay": 1.0})


class RateCurve:
    """Shares of the peaks; a function of the parameters and of the events recorded so far.

    Parameters
    ----------
    params
        Schedule, floor, ramps.
    peaks
        Peak rate by block, the head last.
    total_steps, steps_per_epoch
        Optimizer steps.
    trainable
        Blocks that are trained from the first step, as of `Plan.start`; all others have no rate
        until they are unfrozen. None: not known, a block has its rate until it is said to be
        unfrozen at some step, which matters to nothing that is frozen.
    """

    def __init__(
        self,
        params: RateParams,
        peaks: Mapping[str, float],
        total_steps: int,
        steps_per_epoch: int,
        trainable: Collection[str] | None = None,
    ) -> None:
        self.params = params
        self.peaks = dict(peaks)
        self.head = list(self.peaks)[-1]
        self.total_steps = max(1, total_steps)
        self.ramp_steps = round(params.ramp_epochs * steps_per_epoch)
        self.warmup_steps = 0
        if params.schedule == "linear_warmup_cosine":
            self.warmup_steps = round(params.warmup_share * self.total_steps)
        self._started = None if trainable is None else {self.head, *trainable}
        self._unfrozen_at: dict[str, int] = {}
        #: (step, level): from this step on the cosine falls from this level.
        self._falls: list[tuple[int, float]] = [(self.warmup_steps, 1.0)]
        self._plateau_level = 1.0
        self._stall = Stall(params.plateau_patience)

    def share(self, block: str, step: int) -> float:
        """Give the share of its peak that a block has at an optimizer step, counted from 0."""
        return self._shape(step) * self._ramp(block, step)

    def rate(self, block: str, step: int) -> float:
        """Give the learning rate of a block at an optimizer step, counted from 0."""
        return self.peaks[block] * self.share(block, step)

    def unfrozen(self, step: int, blocks: Iterable[str]) -> None:
        """Record that blocks are trained from a step on.

        What was recorded once is not recorded again. At step 0 there is nothing to ramp up from:
        those blocks are trained from the start.

        Raises
        ------
        ValueError
            When a block is unknown, or the step lies before an earlier unfreezing.
        """
        names = list(blocks)
        unknown = [name for name in names if name not in self.peaks]
        if unknown:
            raise ValueError(f"no such block: {', '.join(unknown)}")
        last = max(self._unfrozen_at.values(), default=0)
        known = {self.head, *self._unfrozen_at, *(self._started or ())}
        new = [name for name in names if name not in known]
        if not new:
            return
        if step < last:
            raise ValueError(f"unfrozen at step {step}, after an unfreezing at step {last}")
        level = self._shape(step)
        self._unfrozen_at |= dict.fromkeys(new, step)
        if step <= 0:
            return
        kept = 1.0 if level < self.params.preserve_below else level
        if step >= self.warmup_steps:
            self._falls.append((step, kept))
        if level < self.params.preserve_below:
            self._plateau_level = 1.0
        self._stall.bad = 0

    def set_rates(self, groups: Iterable[dict[str, Any]], step: int) -> None:
        """Write the rates of a step into an optimizer's groups, which have `block`, `initial_lr`.

        To be called after an unfreezing between epochs: the scheduler has set the rates of the
        next step already, and by the curve as it was before.
        """
        for group in groups:
            group["lr"] = group["initial_lr"] * self.share(group["block"], step)

    def plateau(self, value: float, *, higher_is_better: bool = False) -> None:
        """Take in a validation value; reduce_on_plateau lowers all rates when it has stalled.

        Values are judged as by `ReduceLROnPlateau`; with other schedules nothing happens.
        """
        if self.params.schedule == "reduce_on_plateau" and self._stall.add(value, higher_is_better):
            lower = max(self._plateau_level * self.params.plateau_factor, self.params.floor)
            self._plateau_level = min(self._plateau_level, lower)

    def _shape(self, step: int) -> float:
        """Share that is common to all blocks."""
        rules = self.params
        if rules.schedule == "constant":
            return 1.0
        if rules.schedule == "reduce_on_plateau":
            return self._plateau_level
        if rules.schedule == "onecycle":
            return onecycle(
                step, self.total_steps, rules.pct_start, rules.div_factor, rules.final_div
            )
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps)
        start, level = next(fall for fall in reversed(self._falls) if fall[0] <= step)
        return cosine(step, start, self.total_steps, level, rules.floor)

    def _ramp(self, block: str, step: int) -> float:
        """Give 0 while a block is frozen, then a rise to 1."""
        if block == self.head:
            return 1.0
        at = self._unfrozen_at.get(block)
        if self._started is not None and block in self._started:
            return 1.0
        if at is None:
            return 1.0 if self._started is None else 0.0
        if step < at:
            return 0.0
        if at <= 0 or self.ramp_steps == 0:
            return 1.0
        return min(1.0, (step - at) / self.ramp_steps)

    def state_dict(self) -> dict[str, Any]:
        """Give the events recorded so far, as JSON values."""
        state = {
            "unfrozen_at": self._unfrozen_at,
            "falls": self._falls,
            "plateau_level": self._plateau_level,
            "stall": self._stall.state_dict(),
        }
        return dict(json.loads(json.dumps(state)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up."""
        self._unfrozen_at = {name: int(step) for name, step in state["unfrozen_at"].items()}
        self._falls = [(int(step), float(level)) for step, level in state["falls"]]
        self._plateau_level = float(state["plateau_level"])
        self._stall.load_state_dict(state["stall"])
