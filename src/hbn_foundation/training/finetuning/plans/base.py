"""What every plan of unfreezing shares: it is asked once per epoch and never names a block twice.

A plan knows names, sizes and metrics, no model; freezing is the loop's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from hbn_foundation.training.finetuning.params import PlanParams

History = Sequence[Mapping[str, Any]]
GradientScores = Callable[[], Mapping[str, float]]


class Block(NamedTuple):
    """A part of the model that is frozen and unfrozen as one."""

    name: str
    n_parameters: int


class Decision(NamedTuple):
    """What to do after an epoch."""

    unfreeze: tuple[str, ...] = ()
    stop: bool = False
    reason: str = ""


NOTHING = Decision()


class Plan:
    """Names the blocks to unfreeze; subclasses say which and when.

    Parameters
    ----------
    params
        Parameters of all strategies.
    blocks
        All blocks in forward order, the head last.
    epochs
        Most epochs of the run.

    Attributes
    ----------
    memory
        What a strategy has to remember; JSON values only.
    """

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        self.params = params
        self.blocks = tuple(blocks)
        self.epochs = epochs
        self.head = self.blocks[-1].name
        self.backbone = self.blocks[:-1]
        self.memory: dict[str, Any] = {}
        self._unfrozen: list[str] = []
        self._judged = 0

    def start(self) -> frozenset[str]:
        """Give the blocks that are trained from the first step on."""
        return frozenset({self.head})

    def after_epoch(
        self,
        history: History,
        trainable: AbstractSet[str],
        gradient_scores: GradientScores | None = None,
    ) -> Decision:
        """Decide what comes after an epoch.

        Parameters
        ----------
        history
            One row per epoch so far, with `epoch` counted from 1 and the metrics.
        trainable
            Blocks that are trained now.
        gradient_scores
            Gives ‖gradient‖ / ‖weights‖ of every block; called only where a plan needs it.

        Returns
        -------
        Decision
            In forward order the blocks to unfreeze, none of which was ever named before. Nothing
            when the epoch was judged already, or was the last.
        """
        if not history:
            return NOTHING
        done = int(history[-1]["epoch"])
        if done <= self._judged:
            return NOTHING
        self._judged = done
        if done >= self.epochs:
            return NOTHING
        open_already = set(trainable) | set(self._unfrozen) | self.start()
        frozen = tuple(block for block in self.backbone if block.name not in open_already)
        decision = self.judge(done, history, frozen, gradient_scores)
        wanted = set(decision.unfreeze)
        names = tuple(block.name for block in frozen if block.name in wanted)
        self._unfrozen += names
        if not names and not decision.stop:
            return NOTHING
        return decision._replace(unfreeze=names)

    def judge(
        self,
        done: int,
        history: History,
        frozen: tuple[Block, ...],
        gradient_scores: GradientScores | None,
    ) -> Decision:
        """Decide after `done` epochs, with these blocks frozen; naming others is no harm."""
        return NOTHING

    def is_waiting(self) -> bool:
        """Tell whether an unfreezing is due at an epoch to come, which patience should wait for.

        A first phase that has learned what the head can learn is no reason to stop before the
        second one. What depends on a metric or a gradient that may never come is not waited for.
        """
        return False

    @property
    def done(self) -> int:
        """Epochs judged so far."""
        return self._judged

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run must know, as JSON values."""
        state = {"judged": self._judged, "unfrozen": self._unfrozen, "memory": self.memory}
        return dict(json.loads(json.dumps(state)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it up."""
        state = json.loads(json.dumps(dict(state)))
        self._judged = int(state["judged"])
        self._unfrozen = list(state["unfrozen"])
        self.memory = dict(state["memory"])


def metric_of(row: Mapping[str, Any], name: str) -> float | None:
    """Find a metric in a row; None where it was not computed in this epoch, or is not a number.

    A validation metric stands there under its own name or with `validation_` before it.
    """
    for key in (name, f"validation_{name}"):
        value = row.get(key)
        if value is not None and not math.isnan(value):
            return float(value)
    return None
