"""One more block whenever a metric stalls."""

from __future__ import annotations

from hbn_foundation.scores import higher_is_better
from hbn_foundation.training.finetuning.plans.base import (
    NOTHING,
    Block,
    Decision,
    GradientScores,
    History,
    Plan,
    metric_of,
)
from hbn_foundation.training.finetuning.plans.from_the_back import from_the_back
from hbn_foundation.training.finetuning.stall import Stall


class Plateau(Plan):
    """The next block from the back when a metric stalls; the count begins anew after each."""

    def judge(
        self,
        done: int,
        history: History,
        frozen: tuple[Block, ...],
        gradient_scores: GradientScores | None,
    ) -> Decision:
        """Take the epoch's value in."""
        name = self.params.plateau_metric
        value = metric_of(history[-1], name)
        wanted = from_the_back(self.backbone, self.params.target_share)
        still = {block.name for block in frozen}
        left = [block for block in wanted if block in still]
        if value is None or not left:
            return NOTHING
        stall = Stall(self.params.plateau_patience)
        if "stall" in self.memory:
            stall.load_state_dict(self.memory["stall"])
        if not stall.add(value, higher_is_better(name)):
            self.memory["stall"] = stall.state_dict()
            return NOTHING
        # Values right after an unfreezing are compared with each other, not with those before it.
        self.memory.pop("stall", None)
        return Decision((left[0],), reason=f"{name} has stalled at {value:.4g}")
