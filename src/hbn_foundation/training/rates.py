"""Learning rates as pure functions of the step and of what was unfrozen when.

rate(block, step) = peak(block) · shape(step) · ramp(step - unfrozen_at(block))

One optimizer and one `LambdaLR` live through the whole run; only the shape changes, and only at an
unfreezing: a cosine goes on over the steps that are left, from where it stands or, if that is
too low, from the peak. OneCycle is never restarted. Phases may have schedules of their own, each
over its own steps. Each shape equals torch's scheduler of its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hbn_foundation.training.finetuning_params import RateParams, Schedule
from hbn_foundation.training.unfreezing import Block

#: A value is better when it is so by this share of the size of the best one, as in torch.
THRESHOLD = 1e-4


def cosine(step: int, start: int, total_steps: int, level: float, min_ratio: float) -> float:
    """Fall from a level to a lowest ratio along half a cosine, as `CosineAnnealingLR`.

    Parameters
    ----------
    step, start, total_steps
        Optimizer steps from 0: now, where the fall begins, where it ends.
    level
        Share of the peak at `start`.
    min_ratio
        Share at `total_steps`; a level below it stays what it is, so that no rate rises to it.
    """
    min_ratio = min(min_ratio, level)
    progress = min(1.0, max(0, step - start) / max(1, total_steps - start))
    return min_ratio + (level - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup(step: int, steps: int) -> float:
    """Rise in equal parts to 1 at `steps`, as `LinearLR` from 1 / (steps + 1)."""
    return min(1.0, (step + 1) / (steps + 1))


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, min_ratio: float) -> float:
    """Share of the peak rate of pretraining: linear warm-up over at most a third, then a cosine."""
    steps = min(warmup_steps, total_steps // 3)
    if step < steps:
        return warmup(step, steps)
    return cosine(step, steps, total_steps, 1.0, min_ratio)


def onecycle(
    step: int, total_steps: int, pct_start: float, div_factor: float, final_div: float
) -> float:
    """Rise from 1 / div_factor to 1 and fall to a `final_div`th of where it began.

    As `OneCycleLR` in two phases with cosines (Smith & Topin 2018); it has no other lowest rate.
    """

    def between(start: float, end: float, progress: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))

    first, last = 1 / div_factor, 1 / div_factor / final_div
    top, end = max(0.0, pct_start * total_steps - 1), float(total_steps - 1)
    if step < top:
        return between(first, 1.0, step / top)
    return between(1.0, last, min(1.0, (step - top) / (end - top)) if end > top else 0.0)


class Stall:
    """Counts values that are no better than the best one, by the rule of `ReduceLROnPlateau`.

    Below zero torch's own relative threshold calls a worse value better; here it is a share of the
    best value's size.

    Parameters
    ----------
    patience
        How many values without a better one are tolerated in a row.
    best, bad
        What `state_dict` returned.
    """

    def __init__(self, patience: int, best: float | None = None, bad: int = 0) -> None:
        self.patience = patience
        self.best = best
        self.bad = bad

    def add(self, value: float, higher_is_better: bool) -> bool:
        """Add a value; return whether more values than tolerated were not better."""
        if self._better(value, higher_is_better):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            return True
        return False

    def _better(self, value: float, higher_is_better: bool) -> bool:
        if self.best is None or not math.isfinite(value):
            return math.isfinite(value)
        ahead = value - self.best if higher_is_better else self.best - value
        return ahead > THRESHOLD * abs(self.best)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best": self.best, "bad": self.bad}


def peaks(blocks: Sequence[Block], params: RateParams) -> dict[str, float]:
    """Peak learning rate of each block, in forward order.

    Parameters
    ----------
    blocks
        In forward order, the head last.
    params
        New blocks and the head have `head_lr`. The encoder's last block has `backbone_peak`, each
        one before it `layer_decay` of the next one's (discriminative rates, Howard & Ruder 2018).
    """
    backbone = [block.name for block in blocks[:-1] if not block.is_new]
    found = {
        name: params.backbone_peak * params.layer_decay ** (len(backbone) - 1 - number)
        for number, name in enumerate(backbone)
    }
    return {block.name: found.get(block.name, params.head_lr) for block in blocks}


class Span(NamedTuple):
    """The steps of one schedule; rates rise linearly over the first `warmup` ones."""

    schedule: Schedule
    start: int
    end: int
    warmup: int


class RateCurve:
    """Shares of the peaks; a function of the parameters and of the events recorded so far.

    Parameters
    ----------
    params
        Schedule, lowest rate, ramps.
    peaks
        Peak rate by block, the head last.
    total_steps, steps_per_epoch
        Optimizer steps.
    trainable
        Blocks that are trained from the first step, as of `Plan.start`; all others have no rate
        until they are unfrozen.
    schedules
        Schedules of phases, by the epochs done before them, as of `PlanParams.schedules`. Each runs
        to the next one or to the end, that of `params` to the first.
    """

    def __init__(
        self,
        params: RateParams,
        peaks: Mapping[str, float],
        total_steps: int,
        steps_per_epoch: int,
        trainable: Collection[str],
        schedules: Mapping[int, Schedule] | None = None,
    ) -> None:
        self.params = params
        self.peaks = dict(peaks)
        self.ramp_steps = round(params.ramp_epochs * steps_per_epoch)
        self.spans: list[Span] = []
        of_epoch = {0: params.schedule, **(schedules or {})}
        starts = [epoch * steps_per_epoch for epoch in of_epoch]
        ends = [*starts[1:], max(1, total_steps)]
        for schedule, start, end in zip(of_epoch.values(), starts, ends, strict=True):
            rising = schedule == "linear_warmup_cosine"
            warm = round(params.warmup_share * (end - start)) if rising else 0
            self.spans.append(Span(schedule, start, end, warm))
        self._started = set(trainable)
        self._unfrozen_at: dict[str, int] = {}
        #: (step, level): what an unfreezing or a plateau has set, from this step on.
        self._levels: list[tuple[int, float]] = []
        self._stall = Stall(params.plateau_patience)

    def share(self, block: str, step: int) -> float:
        """Return the share of its peak that a block has at an optimizer step, counted from 0."""
        return self._shape(step) * self._ramp(block, step)

    def rate(self, block: str, step: int) -> float:
        """Return the learning rate of a block at an optimizer step, counted from 0."""
        return self.peaks[block] * self.share(block, step)

    def rate_text(self, block: str, step: int) -> str:
        """Return the learning rate at a step for the log, with what it ramps up to."""
        text = f"lr={self.rate(block, step):.2e}"
        if self._ramp(block, step) == 1:
            return text
        if block not in self._unfrozen_at:
            return "frozen"
        top = self._unfrozen_at[block] + self.ramp_steps
        return f"{text}, rising to {self.rate(block, top):.2e} over {top - step} steps"

    def unfrozen(self, step: int, blocks: Iterable[str]) -> str:
        """Record that blocks are trained from a step on.

        What was recorded once is not recorded again.

        Returns
        -------
        str
            What happened to the schedule and why; empty where nothing is recorded.
        """
        new = [name for name in blocks if name not in {*self._started, *self._unfrozen_at}]
        if not new:
            return ""
        self._unfrozen_at |= dict.fromkeys(new, step)
        self._stall.bad = 0
        return self._rebase(step)

    def _rebase(self, step: int) -> str:
        """Adapt the schedule to an unfreezing; return what was done and why."""
        if began := self.begins(step):
            return began
        span, level = self._span(step), self._shape(step)
        name, kept = span.schedule, ""
        if name == "constant":
            kept = "it never changes"
        elif name == "onecycle":
            done = (step - span.start) / (span.end - span.start)
            kept = f"{done:.0%} of it is done, and a restart would lose that progress"
        elif step < span.start + span.warmup:
            kept = "its warm-up is not over"
        if kept:
            return f"schedule {name}: kept, as {kept}"
        least = self.params.preserve_below
        low = level < least
        self._levels.append((step, 1.0 if low else level))
        text = f"rebased on the {span.end - step} steps that are left"
        if name == "reduce_on_plateau":
            text = "its patience begins anew"
        rates = "stay at their peaks" if level == 1 else f"go on from {level:.0%} of their peaks"
        if low:
            rates = (
                f"are restored to their peaks, as they had fallen to {level:.2%} of them, below "
                f"preserve_below={least:g}"
            )
        return f"schedule {name}: {text}; rates {rates}"

    def begins(self, step: int) -> str:
        """Return, for the log, that a phase's own schedule begins at this step, or nothing."""
        span = self._span(step)
        if step != span.start or step == 0:
            return ""
        return f"schedule {span.schedule}: begins, as this phase's own, for {span.end - step} steps"

    def set_rates(self, groups: Iterable[dict[str, Any]], step: int) -> None:
        """Write the rates of a step into an optimizer's groups, which have `block`, `initial_lr`.

        Call it after an unfreezing between epochs: the scheduler has already set the rates of the
        next step by the curve before the unfreezing.
        """
        for group in groups:
            group["lr"] = group["initial_lr"] * self.share(group["block"], step)

    def plateau(self, value: float, step: int) -> None:
        """Add what validation is judged by, lower is better, with the number of steps so far.

        Where it has stalled reduce_on_plateau lowers all rates, as `ReduceLROnPlateau`; with other
        schedules nothing happens.
        """
        span = self._span(step)
        if span.schedule != "reduce_on_plateau" or step == span.start:
            return
        if self._stall.add(value, higher_is_better=False):
            level = self._shape(step)
            lower = max(level * self.params.plateau_factor, self.params.min_lr_ratio)
            self._levels.append((step, min(level, lower)))

    def _span(self, step: int) -> Span:
        """Return the schedule that a step follows."""
        return next(span for span in reversed(self.spans) if span.start <= max(0, step))

    def _shape(self, step: int) -> float:
        """Share that is common to all blocks."""
        rules, span = self.params, self._span(step)
        done, length = step - span.start, span.end - span.start
        if span.schedule == "constant":
            return 1.0
        if span.schedule == "onecycle":
            return onecycle(done, length, rules.pct_start, rules.div_factor, rules.final_div)
        if done < span.warmup:
            return warmup(done, span.warmup)
        levels = [(span.start + span.warmup, 1.0), *self._levels]
        start, level = next(found for found in reversed(levels) if levels[0][0] <= found[0] <= step)
        if span.schedule == "reduce_on_plateau":
            return level
        return cosine(step, start, span.end, level, rules.min_lr_ratio)

    def _ramp(self, block: str, step: int) -> float:
        """Return 0 while a block is frozen, then a rise to 1."""
        if block in self._started:
            return 1.0
        at = self._unfrozen_at.get(block, math.inf)
        if step < at:
            return 0.0
        return min(1.0, (step - at) / self.ramp_steps) if self.ramp_steps else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the events recorded so far, as JSON values."""
        state = {
            "unfrozen_at": self._unfrozen_at,
            "falls": self._levels,
            "stall": self._stall.state_dict(),
        }
        return dict(json.loads(json.dumps(state)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._unfrozen_at = {name: int(step) for name, step in state["unfrozen_at"].items()}
        self._levels = [(int(step), float(level)) for step, level in state["falls"]]
        self._stall = Stall(self.params.plateau_patience, **state["stall"])
