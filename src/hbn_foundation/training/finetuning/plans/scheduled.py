"""Plans whose epochs are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.training.finetuning.params import PlanParams
from hbn_foundation.training.finetuning.plans.base import (
    Block,
    Decision,
    GradientScores,
    History,
    Plan,
)
from hbn_foundation.training.finetuning.plans.from_the_back import from_the_back

ALL = "all"


class Stage(NamedTuple):
    """Blocks that are trained once so many epochs are done."""

    after: int
    blocks: tuple[str, ...]


class ScheduledPlan(Plan):
    """Unfreezes at set epochs; subclasses give the stages."""

    def stages(self) -> list[Stage]:
        """Give all stages, those from the start included, in order."""
        return []

    def start(self) -> frozenset[str]:
        """Give the head and the blocks of the stages that begin at once."""
        names = [name for stage in self.stages() if stage.after == 0 for name in stage.blocks]
        return frozenset({self.head, *names})

    def is_waiting(self) -> bool:
        """Tell whether a stage within the run is still to come."""
        return any(self.done < stage.after < self.epochs for stage in self.stages())

    def judge(
        self,
        done: int,
        history: History,
        frozen: tuple[Block, ...],
        gradient_scores: GradientScores | None,
    ) -> Decision:
        """Name what is due; what is late, too."""
        due = [name for stage in self.stages() if stage.after <= done for name in stage.blocks]
        return Decision(tuple(due), reason=f"{done} epochs are done")


class HeadOnly(ScheduledPlan):
    """The head alone."""


class Full(ScheduledPlan):
    """All from the start; also the plan of training from scratch."""

    def stages(self) -> list[Stage]:
        """Give one stage."""
        return [Stage(0, tuple(block.name for block in self.backbone))]


class TwoPhase(ScheduledPlan):
    """The head, then all."""

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        given = params.unfreeze_backbone_epoch is not None
        check_begins(
            "unfreeze_backbone_epoch" if given else "phase1_epochs", params.switch_epoch, epochs
        )

    def stages(self) -> list[Stage]:
        """Give one stage."""
        names = tuple(block.name for block in self.backbone)
        return [Stage(self.params.switch_epoch, names)]


class Gradual(ScheduledPlan):
    """One more block from the back every few epochs, up to a share of them."""

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        check_begins("phase1_epochs", params.phase1_epochs, epochs)

    def stages(self) -> list[Stage]:
        """Give one stage per block."""
        names = from_the_back(self.backbone, self.params.target_share)
        first, every = self.params.phase1_epochs, self.params.every
        return [Stage(first + number * every, (name,)) for number, name in enumerate(names)]


class Partial(ScheduledPlan):
    """A share of the encoder from the back, or growing shares."""

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        check_begins("phase1_epochs", params.phase1_epochs, epochs)
        last = self.stages()[-1].after
        if last >= epochs:
            raise UserError(
                f"plan.unfreeze_ratio={list(params.ratios)}: the last share would be unfrozen "
                f"after {last} epochs, but there are only {epochs}; lower stage_epochs "
                f"({params.stage_epochs}) or phase1_epochs ({params.phase1_epochs})"
            )

    def stages(self) -> list[Stage]:
        """Give one stage per share."""
        return ratio_stages(self.params, self.backbone, self.params.phase1_epochs)


class Phases(ScheduledPlan):
    """An explicit list of phases."""

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        total = sum(phase.epochs for phase in params.phases)
        if total > epochs:
            raise UserError(
                f"plan.phases: the phases last {total} epochs together, but there are only {epochs}"
            )
        self._check_names()

    def _check_names(self) -> None:
        known = [block.name for block in self.blocks]
        seen: dict[str, int] = {}
        for number, phase in enumerate(self.params.phases):
            for name in self._resolved(phase.unfreeze):
                key = f"plan.phases.{number}.unfreeze"
                if name not in known:
                    raise UserError(
                        f"{key}: no block {name}; the model has {first_few(known, 20)}, or {ALL}"
                    )
                if name in seen and ALL not in phase.unfreeze and name != self.head:
                    raise UserError(f"{key}: {name} is unfrozen already in phase {seen[name]}")
                seen.setdefault(name, number)

    def _resolved(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(block.name for block in self.blocks) if ALL in names else names

    def stages(self) -> list[Stage]:
        """Give one stage per phase."""
        found, after = [], 0
        for phase in self.params.phases:
            found.append(Stage(after, self._resolved(phase.unfreeze)))
            after += phase.epochs
        return found


def ratio_stages(params: PlanParams, backbone: Sequence[Block], first: int) -> list[Stage]:
    """Give one stage per growing share, the first one after `first` epochs."""
    return [
        Stage(first + number * params.stage_epochs, from_the_back(backbone, ratio, params.ratio_by))
        for number, ratio in enumerate(params.ratios)
    ]


def check_begins(key: str, after: int, epochs: int) -> None:
    """Make sure that the first unfreezing lies within the run."""
    if after >= epochs:
        raise UserError(
            f"plan.{key}={after}: nothing would be unfrozen in a run of {epochs} epochs; expected "
            f"less than {epochs}, or the strategy head_only"
        )
