"""Make the plan that the parameters ask for."""

from __future__ import annotations

from collections.abc import Sequence

from hbn_foundation.errors import UserError
from hbn_foundation.scores import check_metric
from hbn_foundation.training.finetuning.params import PlanParams
from hbn_foundation.training.finetuning.plans.base import Block, Plan
from hbn_foundation.training.finetuning.plans.gated import Gated
from hbn_foundation.training.finetuning.plans.gradient_guided import GradientGuided
from hbn_foundation.training.finetuning.plans.plateau import Plateau
from hbn_foundation.training.finetuning.plans.scheduled import (
    Full,
    Gradual,
    HeadOnly,
    Partial,
    Phases,
    TwoPhase,
)

PLANS: dict[str, type[Plan]] = {
    "head_only": HeadOnly,
    "full": Full,
    "scratch": Full,
    "two_phase": TwoPhase,
    "gated": Gated,
    "gradual": Gradual,
    "partial": Partial,
    "plateau": Plateau,
    "gradient_guided": GradientGuided,
    "phases": Phases,
}
#: Which parameter names the metric that a strategy follows.
METRIC_KEYS = {"gated": "gate_metric", "plateau": "plateau_metric"}


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
    names = [block.name for block in blocks]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected blocks with names of their own, the head last, found {names}")
    if params.strategy not in PLANS:
        raise UserError(f"plan.strategy={params.strategy}: expected one of {', '.join(PLANS)}")
    key = METRIC_KEYS.get(params.strategy)
    if key is not None:
        check_metric(getattr(params, key), f"plan.{key}", is_regression)
    return PLANS[params.strategy](params, blocks, epochs)
