"""Plans of unfreezing: given what happened so far, which blocks to train from now on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import NamedTuple

from hbn_foundation.errors import UserError
from hbn_foundation.scores import check_metric, higher_is_better
from hbn_foundation.training.finetuning_params import PlanParams
from hbn_foundation.training.rates import Stall
from hbn_foundation.training.unfreezing import (
    NOTHING,
    Block,
    Decision,
    Epoch,
    History,
    Plan,
    last_blocks,
    metric_of,
    within_share,
)

ALL = "all"
#: Parameters that name a metric.
METRIC_KEYS = ("gate_metric", "plateau_metric")


class Stage(NamedTuple):
    """Blocks that are trained after a number of epochs."""

    after: int
    blocks: tuple[str, ...]


class ScheduledPlan(Plan):
    """Unfreezes at set epochs; subclasses give the stages. Without any, the head alone."""

    def stages(self) -> list[Stage]:
        """Return all stages, those from the start included, in order."""
        return []

    def start(self) -> frozenset[str]:
        """Return what is new, and the blocks of the stages that begin at once."""
        names = [name for stage in self.stages() if stage.after == 0 for name in stage.blocks]
        return self.new | set(names)

    def is_waiting(self) -> bool:
        """Return whether a stage within the run is still to come."""
        return any(self.done < stage.after < self.epochs for stage in self.stages())

    def judge(self, at: Epoch) -> Decision:
        """Return the blocks of all stages that are due or late."""
        names = due(self.stages(), at.done)
        return Decision(names, reason=at.reason) if names else NOTHING

    def ratio_stages(self, first: int) -> list[Stage]:
        """Return one stage per growing share, the first one after `first` epochs."""
        params = self.params
        return [
            Stage(first + number * params.stage_epochs, within_share(self.backbone, ratio))
            for number, ratio in enumerate(params.ratios)
        ]


def due(stages: Sequence[Stage], done: int) -> tuple[str, ...]:
    """Return the blocks of all stages that have begun."""
    return tuple(name for stage in stages if stage.after <= done for name in stage.blocks)


class Full(ScheduledPlan):
    """All from the start; also the plan of training from scratch."""

    def stages(self) -> list[Stage]:
        """Return one stage."""
        return [Stage(0, tuple(block.name for block in self.backbone))]


class TwoPhase(ScheduledPlan):
    """The head, then all."""

    has_to_begin = True

    def stages(self) -> list[Stage]:
        """Return one stage."""
        return [Stage(self.params.switch_epoch, tuple(block.name for block in self.backbone))]


class Gradual(ScheduledPlan):
    """One more block from the back every few epochs, up to a share of them."""

    has_to_begin = True

    def stages(self) -> list[Stage]:
        """Return one stage per block."""
        names = last_blocks(self.backbone, self.params.target_share)
        first, every = self.params.phase1_epochs, self.params.every
        return [Stage(first + number * every, (name,)) for number, name in enumerate(names)]


class Partial(ScheduledPlan):
    """A share of the encoder from the back, or growing shares."""

    has_to_begin = True

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        last = self.stages()[-1].after
        if last >= epochs:
            raise UserError(
                f"plan.unfreeze_ratio={list(params.ratios)}: the last share would be unfrozen "
                f"after {last} epochs, but there are only {epochs}; lower stage_epochs "
                f"({params.stage_epochs}) or phase1_epochs ({params.phase1_epochs})"
            )

    def stages(self) -> list[Stage]:
        """Return one stage per share."""
        return self.ratio_stages(self.params.phase1_epochs)


class ListedPhases(ScheduledPlan):
    """An explicit list of phases."""

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        total = sum(phase.epochs for phase in params.phases)
        if total > epochs:
            raise UserError(
                f"plan.phases: the phases last {total} epochs together, but there are only {epochs}"
            )
        seen: dict[str, int] = {}
        for number, (phase, stage) in enumerate(zip(params.phases, self.stages(), strict=True)):
            key = f"plan.phases.{number}.unfreeze"
            self.check(stage.blocks, key)
            for name in stage.blocks:
                if name in seen and ALL not in phase.unfreeze and name not in self.new:
                    raise UserError(f"{key}: {name} is unfrozen already in phase {seen[name]}")
                seen.setdefault(name, number)

    def start(self) -> frozenset[str]:
        """Return the blocks of the first phase, and what is new and named in none."""
        named = {name for phase in self.params.phases[1:] for name in phase.unfreeze}
        return super().start() - (named - {self.head})

    def stages(self) -> list[Stage]:
        """Return one stage per phase."""
        found, after = [], 0
        for phase in self.params.phases:
            everything = tuple(block.name for block in self.blocks)
            found.append(Stage(after, everything if ALL in phase.unfreeze else phase.unfreeze))
            after += phase.epochs
        return found

    def phase_after(self, unfrozen: bool) -> int:
        """Return the place in the list, of phases that unfreeze nothing too."""
        return sum(stage.after <= self.done for stage in self.stages())


class Gated(ScheduledPlan):
    """Two phases with a gate between them.

    The gate is judged once the first phase is over. A gate that was passed stays passed if
    the metric falls afterwards; growing shares then follow by the epoch.
    """

    metric_key = "gate_metric"

    def stages(self) -> list[Stage]:
        """Return the growing shares once the gate was passed."""
        passed = self.memory.get("passed_at")
        return [] if passed is None else self.ratio_stages(passed)

    def is_waiting(self) -> bool:
        """Return whether the gate is still to be judged, or a growing share to come."""
        if "passed_at" in self.memory:
            return super().is_waiting()
        extends = self.params.gate_on_fail == "extend"
        longer = self.params.gate_extend_epochs if extends else 0
        return self.done < min(self.params.switch_epoch + longer, self.epochs - 1)

    def opening(self) -> str:
        """Say what is judged when, and what follows."""
        params = self.params
        sign = ">=" if higher_is_better(params.gate_metric) else "<="
        otherwise = {
            "extend": f"the head is trained for up to {params.gate_extend_epochs} epochs more",
            "stop": "training stops",
            "proceed": "it begins all the same",
        }[params.gate_on_fail]
        return (
            f"gate: phase 2 begins after epoch {params.switch_epoch} where the {params.gate_value} "
            f"{params.gate_metric} is {sign} {params.gate_threshold:g}; else {otherwise}"
        )

    def closing(self, head_lr: float) -> str:
        """Say what to try where the gate was judged and never passed."""
        return not_passed(self.params, head_lr) if self.memory.get("passed") is False else ""

    def judge(self, at: Epoch) -> Decision:
        """Judge the gate; once it is passed, return the blocks that are due."""
        if "passed_at" in self.memory:
            return super().judge(at)
        verdict, reason = self._verdict(at)
        if verdict != "proceed":
            return Decision(stop=verdict == "stop", reason=reason)
        self.memory["passed_at"] = at.done
        return Decision(due(self.stages(), at.done), reason=reason)

    def _verdict(self, at: Epoch) -> tuple[str, str]:
        """Return `proceed`, `stop` or `wait`, and why."""
        params = self.params
        name, threshold, first = params.gate_metric, params.gate_threshold, params.switch_epoch
        value = self._judged_value(at.history)
        passed, text = False, f"gate: {name} is not known yet, wanted {threshold:g}"
        if value is not None:
            higher = higher_is_better(name)
            passed = value >= threshold if higher else value <= threshold
            sign = (">=" if passed else "<") if higher else ("<=" if passed else ">")
            text = f"gate: phase 1 {params.gate_value} {name} {value:.4g} {sign} {threshold:g}"
        if at.done < first:
            return "wait", f"{text}, judged after epoch {first}"
        self.memory["passed"] = passed
        if passed:
            return "proceed", f"{text}: passed"
        if params.gate_on_fail == "proceed":
            return "proceed", f"{text}: not passed, the encoder is unfrozen all the same"
        if params.gate_on_fail == "stop":
            # without a value there is nothing to stop for
            return ("wait", text) if value is None else ("stop", f"{text}: not passed")
        left = first + params.gate_extend_epochs - at.done
        if left <= 0:
            return "stop", f"{text}: not passed after {at.done} epochs"
        return "wait", f"{text}: not passed, at most {left} more with the head alone"

    def _judged_value(self, history: History) -> float | None:
        """Return the metric's best, last or smoothed value; None before there is one."""
        found = [metric_of(row, self.params.gate_metric) for row in history]
        values = [value for value in found if value is not None]
        if not values:
            return None
        if self.params.gate_value == "last":
            return values[-1]
        if self.params.gate_value == "best":
            return max(values) if higher_is_better(self.params.gate_metric) else min(values)
        window = values[-self.params.gate_window :]
        return sum(window) / len(window)


def not_passed(params: PlanParams, head_lr: float) -> str:
    """Say what to try where a gate did not pass: other rates, a longer phase, another base."""
    key = "phase1_epochs" if params.unfreeze_backbone_epoch is None else "unfreeze_backbone_epoch"
    first, given = params.switch_epoch, getattr(params, key)
    low, high = (given + math.ceil(share * first) for share in (0.5, 1.0))
    return (
        f"gate: {params.gate_metric} {params.gate_threshold:g} was never passed; try "
        f"rates.head_lr={head_lr / 2:g} or {head_lr * 2:g}, a longer first phase "
        f"(plan.{key}={low} to {high}), or another foundation checkpoint"
    )


class Plateau(Plan):
    """The next block from the back when a metric stalls; the count restarts after each."""

    metric_key = "plateau_metric"

    def judge(self, at: Epoch) -> Decision:
        """Add the epoch's value."""
        name = self.params.plateau_metric
        value = metric_of(at.history[-1], name)
        still = {block.name for block in at.frozen}
        wanted = last_blocks(self.backbone, self.params.target_share)
        left = [block for block in wanted if block in still]
        if value is None or not left:
            return NOTHING
        stall = Stall(self.params.plateau_patience, **self.memory.get("stall", {}))
        if not stall.add(value, higher_is_better(name)):
            self.memory["stall"] = stall.state_dict()
            return NOTHING
        # values right after an unfreezing are compared with each other, not with those before it
        self.memory.pop("stall", None)
        return Decision((left[0],), reason=f"{name} has stalled at {value:.4g}")


class GradientGuided(Plan):
    """Every few epochs the frozen block with the largest relative gradient, if it is large enough.

    It is compared with the blocks of the encoder, trained ones included, but not with the head:
    the head may start at zero, where its gradient relative to its weights is meaningless.
    """

    has_to_begin = True

    def judge(self, at: Epoch) -> Decision:
        """Score the gradients every few epochs."""
        since = at.done - self.params.phase1_epochs
        most = len(last_blocks(self.backbone, self.params.target_share))
        trained = len(self.backbone) - len(at.frozen)
        if since < 0 or since % self.params.every or not at.frozen or trained >= most:
            return NOTHING
        if at.gradient_scores is None:
            raise ValueError("gradient_guided needs the gradients' scores")
        found = at.gradient_scores()
        scores = {block.name: found.get(block.name) or 0.0 for block in self.backbone}
        scores = {name: score if math.isfinite(score) else 0.0 for name, score in scores.items()}
        largest = max(scores.values())
        # of equal scores the block nearest to the head goes first
        best = max(reversed(at.frozen), key=lambda block: scores[block.name]).name
        if scores[best] <= 0 or scores[best] < self.params.gradient_share * largest:
            return NOTHING
        share = f"{scores[best] / largest:.0%} of the largest"
        return Decision((best,), reason=f"{best} has a relative gradient of {share}")


PLANS: dict[str, type[Plan]] = {
    "head_only": ScheduledPlan,
    "full": Full,
    "scratch": Full,
    "two_phase": TwoPhase,
    "gated": Gated,
    "gradual": Gradual,
    "partial": Partial,
    "plateau": Plateau,
    "gradient_guided": GradientGuided,
    "phases": ListedPhases,
}


def make_plan(
    params: PlanParams,
    blocks: Sequence[Block],
    epochs: int,
    *,
    is_regression: bool | None = None,
) -> Plan:
    """Make a plan, and check that it can be carried out.

    Parameters
    ----------
    params
        Strategy and its parameters.
    blocks
        All blocks in forward order, the head last.
    epochs
        Most epochs of the run.
    is_regression
        What is learned, so that the metric is checked to be one of it; None where not known.

    Raises
    ------
    UserError
        One line: an unknown block, phases longer than the run, a metric that is not computed.
    """
    plan = plan_class(params.strategy)
    if plan.metric_key is not None:
        key = plan.metric_key
        if key not in METRIC_KEYS:
            raise UserError(
                f"plan.strategy={params.strategy}: metric_key is {key!r}; expected "
                f"{' or '.join(METRIC_KEYS)}"
            )
        check_metric(getattr(params, key), f"plan.{key}", is_regression)
    made = plan(params, blocks, epochs)
    made.check(made.start(), f"plan.strategy={params.strategy}, at the start")
    if made.head not in made.start():
        raise UserError(
            f"plan.strategy={params.strategy}: start leaves out {made.head}, which is "
            "always trained"
        )
    return made


def plan_class(strategy: str) -> type[Plan]:
    """Return the class of a strategy, imported where it is one of the user's own.

    Raises
    ------
    UserError
        One line, when it cannot be imported or is no subclass of `Plan`.
    """
    if strategy in PLANS:
        return PLANS[strategy]
    name = strategy.rpartition(":")[2]
    expected = f"expected package.module:Class, a subclass of {Plan.__module__}.Plan"
    try:
        found = resolve_name(strategy)
    except Exception as error:  # whatever the module does when it is imported
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"plan.strategy={strategy}: {why}; {expected}") from error
    if not (isinstance(found, type) and issubclass(found, Plan)):
        raise UserError(f"plan.strategy={strategy}: {name} is no such class; {expected}")
    return found
