"""Preview of a fine-tuning before any training: its learning rates, and advice.

What depends on training takes its earliest course: gates pass at once, metrics stall from the
first epoch on, all gradients are alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.scores import KNOWN_METRICS, TRAIN, higher_is_better
from hbn_foundation.training.finetuning_params import (
    WITHOUT_UNFREEZING,
    PlanParams,
    RateParams,
    for_scratch,
)
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.rates import RateCurve, peaks
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.unfreezing import Block, Plan

#: How many times lower than the head's the encoder's rate usually is.
USUAL_RATIOS = (5.0, 10.0)
#: For times in the window, whose head does not start at a good probe, 3 times is best
#: (docs/experiments.md).
LOWEST_OF_TIMES = 2.0
#: Where only a part of the encoder is unfrozen, perhaps behind a gate, it may go slower still.
SLOWEST = 20.0
#: Which share of the epochs the head is best trained alone.
USUAL_PHASE1 = (0.15, 0.25)
#: So many epochs with the head alone are never few.
ENOUGH_PHASE1 = 5
#: Metrics that are never above 1.
AT_MOST_ONE = ("f1", "balanced_accuracy", "auroc", "accuracy", "r", "r2")
#: Metrics that are never below 0 and better the lower they are.
AT_LEAST_ZERO = ("loss", "nrmse", "mae")


def preview_rates(
    plan: PlanParams,
    rates: RateParams,
    blocks: Sequence[Block],
    epochs: int,
    steps_per_epoch: int,
    *,
    points_per_epoch: int = 20,
    further: Sequence[str] = (),
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
        Largest number of steps of an epoch in the table, its first one included.
    further
        Names of further targets, whose scores a strategy may judge.

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
    curve = RateCurve(rates, peaks(blocks, rates), total, steps_per_epoch, trained, plan.schedules)
    steps = np.unique(np.linspace(0, steps_per_epoch, points_per_epoch, endpoint=False).astype(int))
    columns = stalled_columns(plan, blocks, further)
    history: list[dict[str, Any]] = []
    rows, names = [], [block.name for block in blocks]
    for epoch in range(epochs):
        rows += [
            (step, step / steps_per_epoch, name, curve.rate(name, step), name in trained)
            for step, name in product((epoch * steps_per_epoch + steps).tolist(), names)
        ]
        done = (epoch + 1) * steps_per_epoch
        own = {"epoch": epoch + 1, "learning_rate": curve.rate(course.head, done - 1)}
        history.append(columns | course_columns(course, trained) | own)
        curve.plateau(1.0, done)
        decision = course.after_epoch(history, trained, lambda: dict.fromkeys(names, 1.0))
        history[-1]["decision"] = decision.reason
        if decision.unfreeze:
            curve.unfrozen(done, decision.unfreeze)
            trained |= set(decision.unfreeze)
    return pd.DataFrame(rows, columns=["step", "epoch", "block", "rate", "trained"])


def course_columns(course: Plan, trained: Collection[str]) -> dict[str, Any]:
    """Return the columns of a training's row that tell where the plan is."""
    names = [block.name for block in course.blocks if block.name in trained]
    return {"phase": course.phase, "trainable": ",".join(names)}


def stalled_columns(
    plan: PlanParams, blocks: Sequence[Block], further: Sequence[str]
) -> dict[str, Any]:
    """Return the columns of a training's row that the plan does not change.

    Metrics never change, and every gate passes with them.
    """
    scores = {**dict.fromkeys(KNOWN_METRICS, 1.0), plan.gate_metric: plan.gate_threshold}
    scores |= {
        f"{before}{name}_{metric}": 1.0
        for before in ("", TRAIN)
        for name in further
        for metric in KNOWN_METRICS
        if not metric.startswith(TRAIN)
    }
    scores["validation_loss"] = scores.pop("loss")
    moved = [f"{kind}_{block.name}" for kind in ("gradient", "update") for block in blocks]
    others = ("train_loss", "train_plain_loss", "windows_per_second", "seconds")
    return {
        **dict.fromkeys((*others, *moved), 1.0),
        **scores,
        "gap": scores["validation_loss"] - 1.0,
        "device": "cpu",
        "skipped_batches": 0,
    }


def advice(recipe: FineTuningRecipe) -> list[str]:
    """Warn of valid parameters that are likely to be a mistake, a line each with what to try."""
    plan, rates, epochs = recipe.effective_plan, recipe.rates, recipe.trainer.epochs
    lines = []
    if rates.schedule == "onecycle" and plan.strategy not in WITHOUT_UNFREEZING:
        lines.append(
            f"rates.schedule=onecycle with plan.strategy={plan.strategy}: OneCycle is planned for "
            "one set of weights from first to last step, and blocks unfrozen late meet falling "
            "rates; cosine is rebased at an unfreezing and steadier, reduce_on_plateau adapts"
        )
    lines += [
        f"plan.phases.{number}.schedule=onecycle: rates begin at 1/{rates.div_factor:g} of their "
        "peaks and rise to them, which moves what is trained already as much as what was just "
        "unfrozen; cosine begins at the peaks and only falls"
        for number, phase in enumerate(plan.phases if plan.strategy == "phases" else ())
        if number and phase.schedule == "onecycle"
    ]
    if plan.strategy not in ("head_only", "scratch"):
        low = LOWEST_OF_TIMES if recipe.head.is_time else USUAL_RATIOS[0]
        high = SLOWEST if plan.strategy in ("gated", "partial") else USUAL_RATIOS[1]
        lines += _of_ratio(rates, (low, high))
    if not recipe.keeps_head:
        lines += _of_first_phase(plan, epochs)
    if plan.strategy == "gated":
        lines += _of_gate(plan, epochs)
    if recipe.context.is_used and recipe.context.recentre and recipe.label.kind == "participant":
        lines.append(
            "context.recentre: the mean of the recording holds what is constant within it, as the "
            f"{recipe.label.column} of a subject is; consider context.recentre=false"
        )
    if recipe.strata_column is not None and not recipe.regularisation.class_weights:
        lines.append(
            "regularisation.class_weights=false: the loss weighs neither classes nor the strata of "
            f"{recipe.strata_column}, which scores weigh alike"
        )
    patience = recipe.trainer.early_stopping_patience
    if plan.strategy == "plateau" and plan.plateau_patience >= patience:
        lines.append(
            f"plan.plateau_patience={plan.plateau_patience}: training stops early after {patience} "
            "epochs without a better one, before a stalled metric unfreezes anything; consider "
            f"{max(0, patience - 2)}"
        )
    return lines


def _of_ratio(rates: RateParams, usual: tuple[float, float]) -> list[str]:
    ratio = rates.head_lr / rates.backbone_peak
    if usual[0] * (1 - 1e-6) <= ratio <= usual[1] * (1 + 1e-6):
        return []
    key, wanted = "backbone_lr_factor", "0.1"
    if rates.backbone_lr is not None:
        key, wanted = "backbone_lr", f"{rates.head_lr / 10:g} (head_lr / 10)"
    how = f"{ratio:.3g} times below" if ratio >= 1 else f"{1 / ratio:.3g} times above"
    return [
        f"rates.{key}={getattr(rates, key):g}: the encoder's rate {rates.backbone_peak:g} is {how} "
        f"the head's {rates.head_lr:g}; {usual[0]:g} to {usual[1]:g} times below is usual, "
        f"consider {wanted}"
    ]


def _of_first_phase(plan: PlanParams, epochs: int) -> list[str]:
    length, key, more = plan.first_phase
    low, high = (share * epochs for share in USUAL_PHASE1)
    wanted = max(1, round(0.2 * epochs))
    if length is None or min(low, ENOUGH_PHASE1) <= length <= high or length >= epochs:
        return []
    if length in (wanted, 0):
        return []
    return [
        f"plan.{key}={length + more}: the head alone is trained for {length / epochs:.0%} of "
        f"{epochs} epochs; 15 to 25 % are usual, consider {wanted + more}"
    ]


def _of_gate(plan: PlanParams, epochs: int) -> list[str]:
    length, key, more = plan.first_phase
    if length is not None and length >= epochs:
        return [
            f"plan.{key}={length + more}: the gate is never judged in a run of {epochs} epochs; "
            f"consider {max(1, round(0.2 * epochs)) + more}"
        ]
    lines = []
    name, threshold = plan.gate_metric.removeprefix(TRAIN), plan.gate_threshold
    out_of_reach = ""
    if name in AT_MOST_ONE and threshold > 1:
        out_of_reach = "is never above 1"
    elif name in AT_LEAST_ZERO and threshold < 0:
        out_of_reach = "is never below 0"
    if out_of_reach:
        better = "at most 1" if higher_is_better(name) else "above 0"
        lines.append(
            f"plan.gate_threshold={threshold:g}: {plan.gate_metric} {out_of_reach}, so the gate "
            f"never passes; expected {better}"
        )
    last = plan.switch_epoch + (len(plan.ratios) - 1) * plan.stage_epochs
    if last >= epochs:
        lines.append(
            f"plan.unfreeze_ratio={list(plan.ratios)}: the last share would be unfrozen after "
            f"{last} epochs, but there are only {epochs}; lower stage_epochs ({plan.stage_epochs})"
        )
    return lines
