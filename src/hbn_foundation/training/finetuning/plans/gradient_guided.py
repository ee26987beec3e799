"""The frozen block that would move most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hbn_foundation.training.finetuning.params import PlanParams
from hbn_foundation.training.finetuning.plans.base import (
    NOTHING,
    Block,
    Decision,
    GradientScores,
    History,
    Plan,
)
from hbn_foundation.training.finetuning.plans.from_the_back import from_the_back
from hbn_foundation.training.finetuning.plans.scheduled import check_begins


class GradientGuided(Plan):
    """Every few epochs the frozen block with the largest relative gradient, if it is large enough.

    It is compared with the blocks of the encoder, trained ones included, but not with the head:
    the head began at zero, so that its gradient relative to its weights says nothing.
    """

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        super().__init__(params, blocks, epochs)
        check_begins("phase1_epochs", params.phase1_epochs, epochs)

    def judge(
        self,
        done: int,
        history: History,
        frozen: tuple[Block, ...],
        gradient_scores: GradientScores | None,
    ) -> Decision:
        """Probe when it is time to."""
        since = done - self.params.phase1_epochs
        most = len(from_the_back(self.backbone, self.params.target_share))
        trained = len(self.backbone) - len(frozen)
        if since < 0 or since % self.params.every or not frozen or trained >= most:
            return NOTHING
        if gradient_scores is None:
            raise ValueError("gradient_guided needs the gradients' scores")
        found = gradient_scores()
        scores = {block.name: _usable(found.get(block.name)) for block in self.backbone}
        largest = max(scores.values())
        # Of equal scores the block nearest to the head goes first.
        best = max(reversed(frozen), key=lambda block: scores[block.name]).name
        if scores[best] <= 0 or scores[best] < self.params.gradient_share * largest:
            return NOTHING
        share = f"{scores[best] / largest:.0%} of the largest"
        return Decision((best,), reason=f"{best} has a relative gradient of {share}")


def _usable(score: float | None) -> float:
    """Take a score that is no number for none."""
    return score if score is not None and math.isfinite(score) else 0.0
