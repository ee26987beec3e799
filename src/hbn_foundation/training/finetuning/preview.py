"""The learning rates of a configured plan, drawn before any training.

What depends on training takes its earliest course: gates pass at once, metrics stall from the
first epoch on, all gradients are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.scores import KNOWN_METRICS
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.plans import Block, make_plan
from hbn_foundation.training.finetuning.rates import RateCurve, for_scratch, peaks


def preview_rates(
    plan: PlanParams,
    rates: RateParams,
    blocks: Sequence[Block],
    epochs: int,
    steps_per_epoch: int,
    *,
    points_per_epoch: int = 20,
) -> pd.DataFrame:
    """Tabulate each block's learning rate over the run.

    Parameters
    ----------
    plan, rates
        As configured.
    blocks
        In forward order, the head last.
    epochs, steps_per_epoch
        Length of the run.
    points_per_epoch
        At most so many steps of an epoch are in the table, its first one always.

    Returns
    -------
    pandas.DataFrame
        `step` (from 0), `epoch` (epochs done, a fraction), `block`, `rate` (0 while frozen),
        `trained`; blocks in forward order within each step.

    Raises
    ------
    UserError
        When the plan cannot be carried out.
    """
    course = make_plan(plan, blocks, epochs)
    rates = for_scratch(rates) if plan.strategy == "scratch" else rates
    trained = set(course.start())
    total = epochs * steps_per_epoch
    curve = RateCurve(rates, peaks(blocks, rates), total, steps_per_epoch, trained)
    steps = np.unique(np.linspace(0, steps_per_epoch, points_per_epoch, endpoint=False).astype(int))
    history: list[dict[str, Any]] = []
    rows = []
    for epoch in range(epochs):
        rows += [
            (step, step / steps_per_epoch, block.name, curve.rate(block.name, step), here)
            for step in (epoch * steps_per_epoch + steps).tolist()
            for block in blocks
            for here in (block.name in trained,)
        ]
        history.append({"epoch": epoch + 1} | _stalled(plan))
        curve.plateau(1.0)
        decision = course.after_epoch(history, trained, lambda: {b.name: 1.0 for b in blocks})
        if decision.unfreeze:
            curve.unfrozen((epoch + 1) * steps_per_epoch, decision.unfreeze)
            trained |= set(decision.unfreeze)
    return pd.DataFrame(rows, columns=["step", "epoch", "block", "rate", "trained"])


def _stalled(plan: PlanParams) -> dict[str, float]:
    """Metrics that never change, with which every gate passes."""
    return {**dict.fromkeys(KNOWN_METRICS, 1.0), plan.gate_metric: plan.gate_threshold}
