"""What is allowed and seldom wanted: advice on a plan and its rates, before any training."""

from __future__ import annotations

from hbn_foundation.scores import TRAIN, higher_is_better
from hbn_foundation.training.finetuning.params import WITHOUT_UNFREEZING, PlanParams, RateParams

#: How many times lower than the head's the encoder's rate is: 5 to 10 where the head begins well, 3
#: for response times, where it begins at nothing (docs/experiments.md).
USUAL_RATIOS = (2.0, 10.0)
#: Which share of the epochs the head is best trained alone.
USUAL_PHASE1 = (0.15, 0.25)
#: Metrics that are never above 1.
AT_MOST_ONE = ("f1", "balanced_accuracy", "auroc", "accuracy", "r", "r2")
#: Metrics that are never below 0 and better the lower they are.
AT_LEAST_ZERO = ("loss", "nrmse", "mae")


def advice(
    plan: PlanParams, rates: RateParams, epochs: int, *, patience: int | None = None
) -> list[str]:
    """Warn of what is likely to be a mistake, each with a recommendation.

    Parameters
    ----------
    plan, rates
        As configured.
    epochs
        Most epochs of the run.
    patience
        Validations without a better one before the run stops early, where it is known.

    Returns
    -------
    list of str
        One line each; empty where there is nothing to say.
    """
    lines = [
        _onecycle(plan, rates),
        _ratio(plan, rates),
        _first_phase(plan, epochs),
        _gate(plan, epochs),
        _unreached(plan, epochs),
        _patience(plan, patience),
    ]
    return [line for line in lines if line]


def _onecycle(plan: PlanParams, rates: RateParams) -> str:
    if rates.schedule != "onecycle" or plan.strategy in WITHOUT_UNFREEZING:
        return ""
    return (
        f"rates.schedule=onecycle with plan.strategy={plan.strategy}: OneCycle is planned for one "
        "set of weights from first to last step, and blocks unfrozen late meet falling rates; "
        "cosine is rebased at an unfreezing and steadier, reduce_on_plateau adapts"
    )


def _ratio(plan: PlanParams, rates: RateParams) -> str:
    if plan.strategy in ("head_only", "scratch"):
        return ""
    ratio = rates.head_lr / rates.backbone_peak
    if USUAL_RATIOS[0] * (1 - 1e-6) <= ratio <= USUAL_RATIOS[1] * (1 + 1e-6):
        return ""
    key = "backbone_lr_factor" if rates.backbone_lr is None else "backbone_lr"
    value = rates.backbone_lr_factor if rates.backbone_lr is None else rates.backbone_lr
    wanted = "0.1" if rates.backbone_lr is None else f"{rates.head_lr / 10:g}"
    how = f"{ratio:.3g} times below" if ratio >= 1 else f"{1 / ratio:.3g} times above"
    return (
        f"rates.{key}={value:g}: the encoder's rate {rates.backbone_peak:g} is {how} the head's "
        f"{rates.head_lr:g}; 2 to 10 times below is usual, consider {wanted}"
    )


def _first_phase(plan: PlanParams, epochs: int) -> str:
    length, key = first_phase(plan)
    low, high = (share * epochs for share in USUAL_PHASE1)
    wanted = max(1, round(0.2 * epochs))
    if length is None or low <= length <= high or length in (wanted, 0) or length >= epochs:
        return ""
    return (
        f"plan.{key}={length} is {length / epochs:.0%} of {epochs} epochs; the head alone is "
        f"usually trained for 15 to 25 % of them, consider {wanted}"
    )


def first_phase(plan: PlanParams) -> tuple[int | None, str]:
    """Give the epochs with the head alone and the parameter that says so; None where none does."""
    if plan.strategy in (*WITHOUT_UNFREEZING, "plateau"):
        return None, ""
    if plan.strategy == "phases":
        first = plan.phases[0]
        return (None if first.unfreeze else first.epochs), "phases.0.epochs"
    if plan.strategy in ("two_phase", "gated") and plan.unfreeze_backbone_epoch is not None:
        return plan.unfreeze_backbone_epoch, "unfreeze_backbone_epoch"
    return plan.phase1_epochs, "phase1_epochs"


def _gate(plan: PlanParams, epochs: int) -> str:
    if plan.strategy != "gated":
        return ""
    length, key = first_phase(plan)
    if length is not None and length >= epochs:
        return (
            f"plan.{key}={length}: the gate is never judged in a run of {epochs} epochs; "
            f"consider {max(1, round(0.2 * epochs))}"
        )
    name, threshold = plan.gate_metric.removeprefix(TRAIN), plan.gate_threshold
    out_of_reach = ""
    if name in AT_MOST_ONE and threshold > 1:
        out_of_reach = "is never above 1"
    elif name in AT_LEAST_ZERO and threshold < 0:
        out_of_reach = "is never below 0"
    if not out_of_reach:
        return ""
    better = "at most 1" if higher_is_better(name) else "above 0"
    return (
        f"plan.gate_threshold={threshold:g}: {plan.gate_metric} {out_of_reach}, so the gate never "
        f"passes; expected {better}"
    )


def _unreached(plan: PlanParams, epochs: int) -> str:
    """Growing shares of a gated plan that come after the end of the run."""
    if plan.strategy != "gated" or plan.switch_epoch >= epochs:
        return ""
    last = plan.switch_epoch + (len(plan.ratios) - 1) * plan.stage_epochs
    if last < epochs:
        return ""
    return (
        f"plan.unfreeze_ratio={list(plan.ratios)}: the last share would be unfrozen after {last} "
        f"epochs, but there are only {epochs}; lower stage_epochs ({plan.stage_epochs})"
    )


def _patience(plan: PlanParams, patience: int | None) -> str:
    if plan.strategy != "plateau" or patience is None or plan.plateau_patience < patience:
        return ""
    return (
        f"plan.plateau_patience={plan.plateau_patience}: training stops early after {patience} "
        "epochs without a better one, before a stalled metric unfreezes anything; consider "
        f"{max(0, patience - 2)}"
    )
