"""The aims set for a foundation model: met, not met, undecided or not applicable, with the value.

They are aims, never conditions: nothing fails because one is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import PRETRAINED
from hbn_foundation.evaluation.statistics import FEWEST_SUBJECTS
from hbn_foundation.evaluation.training_figure import best_epoch

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint

COLUMNS = ("criterion", "aim", "value", "verdict")
MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "not applicable"
UNDECIDED = "undecided"
#: Objectives whose loss is a binary cross-entropy, for which ln 2 = .69 is chance.
BINARY = ("relative_positioning", "task_classification")
SMALL_CHANGE = 0.01
Row = tuple[str, str, str, str]
MOST_HOURS = 6.0


def criteria_table(
    history: pd.DataFrame, metrics: Mapping[str, Any], checkpoint: Checkpoint
) -> pd.DataFrame:
    """Compare a run with the aims set for it.

    Parameters
    ----------
    history
        One row per epoch.
    metrics
        Of `evaluate_foundation`.
    checkpoint
        The foundation checkpoint.

    Returns
    -------
    pandas.DataFrame
        `criterion`, `aim`, `value`, `verdict` (met, not met, not applicable; undecided where fewer
        than ten subjects were scored).
    """
    objective = checkpoint.metadata.get("objective", "")
    pretext = metrics.get("objective", {}).get("shuffled", False)
    probe = metrics.get("label", {}).get("shuffled", False)
    own_accuracy = "accuracy" in history
    rows = [
        _loss_falls(history),
        *_unless_shuffled([_loss_small(history, objective)], pretext),
        *_unless_shuffled(_accuracy(history, metrics), pretext if own_accuracy else probe),
        *_unless_shuffled([_better_than_trivial(metrics)], pretext),
        _time(history),
        _size(metrics),
        _converged(history, checkpoint),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _unless_shuffled(rows: list[Row], shuffled: bool) -> list[Row]:
    """Give no verdict on a control: what it scores says nothing about the encoder."""
    if not shuffled:
        return rows
    return [
        (name, aim, f"{value}, labels shuffled", NOT_APPLICABLE) for name, aim, value, _ in rows
    ]


def _loss_falls(history: pd.DataFrame) -> Row:
    name, aim = "training loss falls", "last below first epoch"
    if len(history) < 2:
        return name, aim, f"{len(history)} epoch", NOT_APPLICABLE
    first, last = history["train_loss"].iloc[0], history["train_loss"].iloc[-1]
    return name, aim, f"{first:.3f} to {last:.3f}", met_or_not(last < first)


def _loss_small(history: pd.DataFrame, objective: str) -> Row:
    name, aim = "training loss of a binary task", "from about 0.69 to < 0.3"
    chance = history["trivial_loss"].iloc[-1] if "trivial_loss" in history else np.nan
    # Two classes at most: the loss of knowing the shares alone is then at most ln 2.
    if objective not in BINARY or history.empty or not chance <= np.log(2) + 0.01:
        return name, aim, objective.replace("_", " ") or "unknown", NOT_APPLICABLE
    last = history["train_loss"].iloc[-1]
    return name, aim, f"{last:.3f}", met_or_not(last < 0.3)


def _accuracy(history: pd.DataFrame, metrics: Mapping[str, Any]) -> list[Row]:
    """Judge the accuracy; that of a probe also by the class that it recognises least."""
    best = best_epoch(history)
    counts, recall, beside = metrics.get("subjects", {}), np.nan, ""
    if "accuracy" in history and best is not None:
        name, n = "validation accuracy", counts.get("validation", 0)
        value = float(history.loc[history["epoch"] == best, "accuracy"].iloc[0])
    else:
        name, n = "balanced accuracy of the probe", counts.get("test", 0)
        probe = metrics.get("probe", {}).get(PRETRAINED, {})
        found = probe.get("balanced_accuracy")
        value = np.nan if found is None else float(found)
        recall, chance = worst_recall(probe.get("confusion_matrix", []))
        beside = f", each class recalled above {chance:.0%}"
    if np.isnan(value):
        why = "one class only" if "score" in metrics.get("missing", {}) else "unknown"
        return [(name, "> 60 %", why, NOT_APPLICABLE)]
    text = f"{value:.1%}" + (f", lowest recall {recall:.0%}" if beside else "")
    each = not beside or recall > chance
    return [
        (f"{name}{more}", f"> {least:.0%}{beside}", text, verdict_of(value > least and each, n))
        for more, least in (("", 0.6), (", stretch", 0.7))
    ]


def worst_recall(matrix: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the lowest share of right answers of a class, and what guessing would give.

    Parameters
    ----------
    matrix
        Counts (K, K), true classes in the rows; classes without items do not count.
    """
    rows = [(row[k], sum(row)) for k, row in enumerate(matrix) if sum(row)]
    if not rows:
        return np.nan, np.nan
    return min(right / n for right, n in rows), 1 / len(rows)


def _better_than_trivial(metrics: Mapping[str, Any]) -> Row:
    name, aim = "pretext against trivial predictor", "> 15 % better"
    value = metrics.get("pretext", {}).get("test", {}).get("improvement")
    if value is None:
        return name, aim, "unknown", NOT_APPLICABLE
    n = metrics.get("subjects", {}).get("test", 0)
    return name, aim, f"{value:.1%}", verdict_of(value > 0.15, n)


def _time(history: pd.DataFrame) -> Row:
    name, aim = "training time", f"< {MOST_HOURS:g} h"
    if "seconds" not in history or history.empty:
        return name, aim, "unknown", NOT_APPLICABLE
    seconds = float(history["seconds"].sum())
    text = f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{seconds / 60:.1f} min"
    return name, aim, text, met_or_not(seconds < MOST_HOURS * 3600)


def _size(metrics: Mapping[str, Any]) -> Row:
    name, aim = "size of the encoder", "10 to 20 MB"
    megabytes = metrics.get("model", {}).get("megabytes")
    if megabytes is None:
        return name, aim, "unknown", NOT_APPLICABLE
    return name, aim, f"{megabytes:.1f} MB", met_or_not(10 <= megabytes <= 20)


def _converged(history: pd.DataFrame, checkpoint: Checkpoint) -> Row:
    """Tell whether patience ended the run, or the validation loss stands still at its end."""
    name, aim = "convergence", f"stopped early or loss flat to {SMALL_CHANGE:.0%}"
    losses = history["validation_loss"].dropna().to_numpy() if len(history) else np.empty(0)
    best = best_epoch(history) if len(history) else None
    if len(losses) < 4 or best is None:
        return name, aim, f"{len(losses)} validations", NOT_APPLICABLE
    if str(checkpoint.metadata.get("stopped")).startswith("no better validation"):
        return name, aim, f"stopped early, best epoch {best}", MET
    change = abs(losses[-4] - losses[-1]) / max(abs(losses[-4]), 1e-12)
    return name, aim, f"changed by {change:.1%}", met_or_not(change < SMALL_CHANGE)


def met_or_not(met: bool) -> str:
    """Word a verdict."""
    return MET if met else NOT_MET


def verdict_of(met: bool, n_subjects: int) -> str:
    """Word a verdict on a score of subjects: with fewer than ten it is undecided."""
    return UNDECIDED if n_subjects < FEWEST_SUBJECTS else met_or_not(met)
