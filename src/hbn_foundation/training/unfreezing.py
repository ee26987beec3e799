"""What all plans of unfreezing share; the plans are in `plans`.

A plan is asked once per epoch and never names a block twice. It knows names, sizes and metrics, no
model; the training freezes and unfreezes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.training.finetuning_params import PlanParams

History = Sequence[Mapping[str, Any]]
GradientScores = Callable[[], Mapping[str, float]]


class Block(NamedTuple):
    """A part of the model that is frozen and unfrozen as one."""

    name: str
    n_parameters: int
    is_new: bool = False  # of no checkpoint: trained from the first step, at the head's rate


class Decision(NamedTuple):
    """What to do after an epoch; a reason alone is what is waited for."""

    unfreeze: tuple[str, ...] = ()
    stop: bool = False
    reason: str = ""


NOTHING = Decision()


class Epoch(NamedTuple):
    """What a plan is judged on: epochs done, their rows, frozen blocks, gradients of blocks."""

    done: int
    history: History
    frozen: tuple[Block, ...]
    gradient_scores: GradientScores | None

    @property
    def reason(self) -> str:
        """How many epochs are done, in words."""
        return f"{self.done} {'epoch is' if self.done == 1 else 'epochs are'} done"


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
        State of the strategy; JSON values only.
    done
        Epochs judged so far.
    phase
        Number of the phase that is trained now, from 1; each unfreezing begins one.
    """

    #: Whether the first unfreezing is due in the run at `PlanParams.first_phase`.
    has_to_begin = False
    #: Parameter that names the metric the strategy follows.
    metric_key: str | None = None

    def __init__(self, params: PlanParams, blocks: Sequence[Block], epochs: int) -> None:
        self.params = params
        self.blocks = tuple(blocks)
        self.epochs = epochs
        self.head = self.blocks[-1].name
        self.backbone = tuple(block for block in self.blocks[:-1] if not block.is_new)
        self.new = frozenset(block.name for block in blocks if block.is_new) | {self.head}
        self.memory: dict[str, Any] = {}
        self.done = 0
        self.phase = 1
        self._unfrozen: list[str] = []
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Make sure that the phases fit the run, and that no length is without effect."""
        params, epochs = self.params, self.epochs
        first, key, more = params.first_phase
        if self.has_to_begin and first is not None and first >= epochs:
            raise UserError(
                f"plan.{key}={first + more}: nothing would be unfrozen in a run of {epochs} "
                f"epochs; expected at most {epochs - 1 + more}, or the strategy head_only"
            )
        alone, usual = params.phase1_epochs, PlanParams.model_fields["phase1_epochs"].default
        if key == "unfreeze_backbone_epoch" and alone not in (usual, first):
            raise UserError(
                f"plan.phase1_epochs={alone}: plan.{key}={getattr(params, key)} sets the epoch of "
                "the unfreezing; leave one of them out"
            )
        second = params.phase2_epochs
        if second is not None and first is None and ":" not in params.strategy:
            raise UserError(
                f"plan.phase2_epochs={second}: plan.strategy={params.strategy} has no first phase "
                "of a set length, so nothing is checked; leave phase2_epochs out"
            )
        if first is not None and second is not None and first + second != epochs:
            raise UserError(
                f"plan.phase2_epochs={second}: {first} epochs before them (plan.{key}="
                f"{first + more}) make {first + second}, but trainer.epochs is {epochs}; leave one "
                "of them out"
            )

    def start(self) -> frozenset[str]:
        """Return the blocks that are trained from the first step on."""
        return self.new

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
        done = int(history[-1]["epoch"]) if history else 0
        if done <= self.done:
            return NOTHING
        self.done = done
        if done >= self.epochs:
            return NOTHING
        open_already = set(trainable) | set(self._unfrozen) | self.start()
        frozen = tuple(block for block in self.blocks if block.name not in open_already)
        decision = self._judged(Epoch(done, history, frozen, gradient_scores))
        names = tuple(block.name for block in frozen if block.name in decision.unfreeze)
        self._unfrozen += names
        self.phase = self.phase_after(bool(names))
        if decision.unfreeze and not names:
            return NOTHING
        return decision._replace(unfreeze=names)

    def _judged(self, at: Epoch) -> Decision:
        """Return what `judge` does; a UserError where it fails in a strategy of the user's."""
        strategy = self.params.strategy
        where = f"plan.strategy={strategy}, after epoch {at.done}"
        try:
            decision = self.judge(at)
        except UserError:
            raise
        except Exception as error:
            if ":" not in strategy:
                raise
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{where}: judge fails with {why}") from error
        if not isinstance(decision, Decision):
            raise UserError(
                f"plan.strategy={strategy}: judge returns {decision!r}; expected a "
                f"{Decision.__module__}.Decision"
            )
        if isinstance(decision.unfreeze, str):
            raise UserError(
                f"{where}: unfreeze={decision.unfreeze!r}; expected a tuple of blocks, "
                f"Decision(({decision.unfreeze!r},))"
            )
        self.check(decision.unfreeze, where)
        return decision

    def phase_after(self, unfrozen: bool) -> int:
        """Return the number of the phase that begins, or goes on, after the epoch just judged."""
        return self.phase + unfrozen

    def judge(self, at: Epoch) -> Decision:
        """Decide after an epoch; naming blocks that are not frozen has no effect."""
        return NOTHING

    def opening(self) -> str:
        """Say at the start what later phases depend on; empty where on the epochs alone."""
        return ""

    def closing(self, head_lr: float) -> str:
        """Say at the end what did not come about, and what to try; empty where all did."""
        return ""

    def check(self, names: Iterable[str], where: str) -> None:
        """Make sure that all names are blocks of the model; a UserError begins with `where`."""
        known = [block.name for block in self.blocks]
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{where}: no block {unknown[0]}; the model has {first_few(known, 20)}")

    def is_waiting(self) -> bool:
        """Return whether an unfreezing is due at a later epoch, which patience waits for.

        A first phase that has learned what the head can learn is no reason to stop before the
        second one. Unfreezings that depend on a metric or a gradient are not waited for.
        """
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know, as JSON values."""
        state = {
            "judged": self.done,
            "phase": self.phase,
            "unfrozen": self._unfrozen,
            "memory": self.memory,
        }
        return dict(json.loads(json.dumps(state)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        state = json.loads(json.dumps(dict(state)))
        self.done, self.phase = int(state["judged"]), int(state["phase"])
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


def last_blocks(backbone: Sequence[Block], share: float) -> tuple[str, ...]:
    """Return the fewest last blocks that are at least a share of the encoder's blocks.

    Names, the last block first; the share is above 0, at most 1.
    """
    count = math.ceil(share * len(backbone) * (1 - 1e-9))
    return tuple(block.name for block in reversed(backbone))[: max(count, 1)]


def within_share(backbone: Sequence[Block], share: float) -> tuple[str, ...]:
    """Return the most last blocks that have at most a share of the encoder's parameters.

    Names, the last block first, and it alone where it has more than the share.
    """
    left = share * sum(block.n_parameters for block in backbone) * (1 + 1e-9)
    names: list[str] = []
    for block in reversed(backbone):
        left -= block.n_parameters
        if names and left < 0:
            break
        names.append(block.name)
    return tuple(names)
