"""Criteria of the models: met, not met, undecided or not applicable, with the value.

Nothing fails because a criterion is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures.training import best_epoch
from hbn_foundation.evaluation.methods import MODEL, PRETRAINED
from hbn_foundation.evaluation.report.sections import Table, plain_table
from hbn_foundation.evaluation.statistics import FEWEST_SUBJECTS
from hbn_foundation.evaluation.tasks.factors import MEAN
from hbn_foundation.evaluation.wording import interval_of, number
from hbn_foundation.progress import duration
from hbn_foundation.training.params import SUPERVISED

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint

COLUMNS = ("criterion", "threshold", "value", "verdict")
MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "not applicable"
UNDECIDED = "undecided"
SMALL_CHANGE = 0.01
MAX_HOURS = 6.0
TABLE_PROBLEM = "table_problem"
Judged = tuple[str, str]
"""The value as text, and the verdict."""
Row = tuple[str, str, str, str]


def criteria_section(criteria: pd.DataFrame) -> Table:
    """Make the table of criteria."""
    rows = [[str(value) for value in row] for row in criteria.to_numpy()]
    return plain_table("Criteria", COLUMNS, rows)


def foundation_criteria(
    history: pd.DataFrame, metrics: Mapping[str, Any], checkpoint: Checkpoint
) -> pd.DataFrame:
    """Compare a pretraining run with its criteria.

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
        `criterion`, `threshold`, `value`, `verdict` (met, not met, not applicable; undecided where
        fewer than ten subjects were scored).
    """
    pretext = metrics["objective"]["shuffled"]
    loss = _binary_loss(history, checkpoint.metadata.get("objective", ""))
    improvement = metrics["pretext"]["test"].get("improvement")
    gain = _judged(improvement, "{:.1%}".format, lambda x: x > 0.15, metrics["subjects"]["test"])
    of = "objective" if "accuracy" in history else "label"
    accuracies = _accuracy(history, metrics, metrics[of]["shuffled"])
    seconds = history["seconds"].sum() if len(history) else None
    megabytes = metrics["model"]["megabytes"]
    rows = [
        ("training loss falls", "last below first epoch", *_loss_falls(history)),
        ("training loss of a binary task", "from about 0.69 to < 0.3", *_control(loss, pretext)),
        *accuracies,
        ("pretext against trivial predictor", "> 15 % better", *_control(gain, pretext)),
        ("training time", f"< {MAX_HOURS:g} h",
         *_judged(seconds, duration, lambda x: x < MAX_HOURS * 3600)),
        ("size of the encoder", "10 to 20 MB",
         *_judged(megabytes, "{:.1f} MB".format, lambda x: 10 <= x <= 20)),
        ("convergence", f"stopped early or loss flat to {SMALL_CHANGE:.0%}",
         *_converged(history, checkpoint)),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def response_time_criteria(scores: pd.DataFrame, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Compare response times and success with their criteria.

    Parameters
    ----------
    scores
        Of `by_method`.
    metrics
        With `n_subjects`; `table_problem` is the error in the CSV of predictions, None where it is
        valid; without this entry, its row is omitted.
    """
    ours = scores[scores["kind"] == MODEL].iloc[0]
    rows = [
        _score("response time, Pearson r over all trials", 0.3, ours, "r", metrics),
        _score("success of a trial, AUROC", 0.7, ours, "auroc", metrics),
    ]
    return pd.DataFrame([*rows, *_csv(metrics)], columns=list(COLUMNS))


def factor_criteria(by_factor: pd.DataFrame, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Compare the factors with their criteria: Pearson r over subjects.

    Parameters
    ----------
    by_factor
        The model's scores, one row per `factor`, that of the mean among them.
    metrics
        As for `response_time_criteria`.
    """
    rows = []
    order = by_factor.sort_values("factor", key=lambda names: names != MEAN, kind="stable")
    for _, row in order.iterrows():
        of_mean = row["factor"] == MEAN
        name = "mean of the factors" if of_mean else str(row["factor"]).replace("_", " ")
        least = 0.2 if of_mean else 0.15
        rows.append(_score(f"{name}, Pearson r over subjects", least, row, "subject_r", metrics))
    return pd.DataFrame([*rows, *_csv(metrics)], columns=list(COLUMNS))


def _score(name: str, least: float, row: pd.Series, score: str, metrics: Mapping[str, Any]) -> Row:
    value, threshold = float(row[score]), f"> {least:g}"
    if np.isnan(value):
        return name, threshold, "no score", NOT_APPLICABLE
    text = f"{number(value, 2)} ({interval_of(row, score, 2) or 'no interval'})"
    return name, threshold, text, _verdict(value > least, metrics["n_subjects"])


def _csv(metrics: Mapping[str, Any]) -> list[Row]:
    if TABLE_PROBLEM not in metrics:
        return []
    problem = metrics[TABLE_PROBLEM]
    return [("CSV of the predictions", "valid", problem or "valid", _verdict(not problem))]


def _verdict(met: bool, n_subjects: int = FEWEST_SUBJECTS) -> str:
    """Return the verdict: undecided where fewer than ten subjects were scored."""
    if n_subjects < FEWEST_SUBJECTS:
        return UNDECIDED
    return MET if met else NOT_MET


def _judged(
    value: Any,
    text: Callable[[Any], str],
    met: Callable[[Any], bool],
    n_subjects: int = FEWEST_SUBJECTS,
) -> Judged:
    if value is None:
        return "unknown", NOT_APPLICABLE
    return text(value), _verdict(met(value), n_subjects)


def _control(judged: Judged, shuffled: bool) -> Judged:
    """Give no verdict on a control with shuffled labels."""
    return (f"{judged[0]}, labels shuffled", NOT_APPLICABLE) if shuffled else judged


def _loss_falls(history: pd.DataFrame) -> Judged:
    if len(history) < 2:
        return f"{len(history)} epoch", NOT_APPLICABLE
    first, last = history["train_loss"].iloc[0], history["train_loss"].iloc[-1]
    return f"{first:.3f} to {last:.3f}", _verdict(last < first)


def _binary_loss(history: pd.DataFrame, objective: str) -> Judged:
    chance = history["trivial_loss"].iloc[-1] if "trivial_loss" in history else np.nan
    # Two classes at most: the loss of knowing the shares alone is then at most ln 2.
    if objective != SUPERVISED or history.empty or not chance <= np.log(2) + 0.01:
        return objective.replace("_", " ") or "unknown", NOT_APPLICABLE
    return _judged(history["train_loss"].iloc[-1], "{:.3f}".format, lambda x: x < 0.3)


def _accuracy(history: pd.DataFrame, metrics: Mapping[str, Any], shuffled: bool) -> list[Row]:
    """Judge the accuracy on validation subjects: of the objective, or else of the frozen probe.

    That of the probe is the mean over classes, and judged by the class with the lowest recall, too.
    """
    best, each, beside = best_epoch(history), True, ""
    if "accuracy" in history and best is not None:
        value = float(history.loc[history["epoch"] == best, "accuracy"].iloc[0])
        text = f"{value:.1%}"
    else:
        probe = metrics["probe"][PRETRAINED]["validation"]
        found = probe["balanced_accuracy"]
        value = np.nan if found is None else float(found)
        recall, chance = _lowest_recall(probe["confusion_matrix"])
        beside, each = f", each class recalled above {chance:.0%}", recall > chance
        text = (
            f"{value:.1%} (balanced, of the frozen probe; optimistic, for its strength was chosen "
            f"on these subjects), lowest recall {recall:.0%}"
        )
    if np.isnan(value):
        why = "one class only" if "choice" in metrics["missing"] else "unknown"
        return [("validation accuracy", "> 60 %", *_control((why, NOT_APPLICABLE), shuffled))]
    n = metrics["subjects"]["validation"]
    return [
        (f"validation accuracy{more}", f"> {least:.0%}{beside}",
         *_control((text, _verdict(value > least and each, n)), shuffled))
        for more, least in (("", 0.6), (", stretch", 0.7))
    ]  # fmt: skip


def _lowest_recall(matrix: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the lowest recall of a class with items, and that of guessing, from counts (K, K)."""
    rows = [(row[k], sum(row)) for k, row in enumerate(matrix) if sum(row)]
    return min(right / n for right, n in rows), 1 / len(rows)


def _converged(history: pd.DataFrame, checkpoint: Checkpoint) -> Judged:
    """Judge whether early stopping ended the run, or the validation loss is flat at its end."""
    losses = history["validation_loss"].dropna().to_numpy() if len(history) else np.empty(0)
    best = best_epoch(history) if len(history) else None
    if len(losses) < 4 or best is None:
        return f"{len(losses)} validations", NOT_APPLICABLE
    if str(checkpoint.metadata.get("stopped")).startswith("no better validation"):
        return f"stopped early, best epoch {best}", MET
    change = abs(losses[-4] - losses[-1]) / max(abs(losses[-4]), 1e-12)
    return f"changed by {change:.1%}", _verdict(change < SMALL_CHANGE)
