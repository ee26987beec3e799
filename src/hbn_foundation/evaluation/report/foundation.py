"""The report on a foundation model: pretext task, frozen probe, criteria."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.figures.scores import folds_figure, scores_figure
from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.methods import PRETRAINED
from hbn_foundation.evaluation.report.criteria import criteria_section
from hbn_foundation.evaluation.report.folds import folds_sentences, folds_table
from hbn_foundation.evaluation.report.sections import (
    Column,
    Report,
    Table,
    plain_table,
    score_table,
)
from hbn_foundation.evaluation.report.verdicts import split_verdict
from hbn_foundation.evaluation.scorers import display_metric
from hbn_foundation.evaluation.statistics import FIXED_MODEL, count_of
from hbn_foundation.evaluation.tables import summarise_folds
from hbn_foundation.evaluation.wording import interval, number, sample_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("window_auroc", "recording_auroc", "balanced_accuracy")
TITLES = {name: display_metric(name) for name in SCORES}
COLUMNS = (
    Column("window_auroc", interval=True),
    *map(Column, SCORES[1:]),
    Column("window_auroc_ahead", interval=True),
)
MISSING = {"score": "No score", "interval": "No interval", "choice": "Note"}


def foundation_report(
    metrics: Mapping[str, Any],
    scores: pd.DataFrame,
    fold_summary: pd.DataFrame | None,
    criteria: pd.DataFrame,
) -> Report:
    """Declare the report.

    Parameters
    ----------
    metrics, scores
        Of `evaluate_foundation`.
    fold_summary
        Of `summarise_folds`; None or empty without repeated splits.
    criteria
        Of `foundation_criteria`.
    """
    table = _best_first(scores)
    missing = metrics.get("missing", {})
    lead = ""
    if "score" not in missing:
        verdict = split_verdict(table, "window_auroc").removeprefix("It ")
        lead = f"On one split, the pretrained encoder {verdict} "
        lead += "Repeated splits are needed to judge the difference."
    sections = [_pretext(metrics), _probe(metrics, table)]
    if fold_summary is not None and not fold_summary.empty:
        sections.append(probe_folds(fold_summary))
    sections.append(criteria_section(criteria))
    return Report("Foundation model", lead, "", [one for one in sections if one is not None])


def probe_figure(scores: pd.DataFrame, folds: pd.DataFrame | None = None) -> Figure:
    """Draw the scores of the frozen probe, over repeated splits where there are some.

    Parameters
    ----------
    scores
        One row per method of a single split.
    folds
        One row per fold and method; may be empty.
    """
    title = "Frozen probe on test subjects"
    if folds is not None and not folds.empty:
        return folds_figure(folds, summarise_folds(folds), TITLES, title)
    return scores_figure(_best_first(scores), TITLES, title)


def _best_first(scores: pd.DataFrame) -> pd.DataFrame:
    return by_method(scores).sort_values("window_auroc", ascending=False, kind="stable")


def probe_folds(summary: pd.DataFrame) -> Table:
    """Make the table of the frozen probe over repeated splits.

    Parameters
    ----------
    summary
        Of `summarise_folds`.
    """
    title = f"Frozen probe over {int(summary['folds'].iloc[0])} folds of subjects"
    notes = [_pretraining(summary), *folds_sentences(summary, "The pretrained encoder", {})]
    return folds_table(title, summary, TITLES, notes=[text for text in notes if text])


def _pretraining(summary: pd.DataFrame) -> str:
    """Describe pretext scores and training speed over the folds."""
    ours = summary[summary["method"] == PRETRAINED]
    if ours.empty or pd.isna(ours["pretext_improvement"].iloc[0]):
        return ""
    row = ours.iloc[0]
    line = (
        f"Pretext task, test subjects: {row['pretext_improvement']:+.1%} against the best trivial "
        f"predictor (folds: {row['pretext_improvement_low']:+.1%} to "
        f"{row['pretext_improvement_high']:+.1%})"
    )
    speed = row["windows_per_second"]
    return f"{line}." if pd.isna(speed) else f"{line}; {speed:,.0f} windows/s in pretraining."


def _probe(metrics: Mapping[str, Any], table: pd.DataFrame) -> Table:
    label, counts = metrics["label"], metrics["subjects"]
    control = ", LABELS SHUFFLED" if label.get("shuffled") else ""
    title = (
        f"Frozen probe: {' / '.join(label['classes'])}{control} - {counts['train']} training, "
        f"{counts['validation']} validation, {count_of(counts['test'], 'test subject')}"
    )
    missing = metrics.get("missing", {})
    notes = [sample_text(metrics, table["method"])]
    if interval(*table.iloc[0][["window_auroc_low", "window_auroc_high"]]):
        notes.append(FIXED_MODEL)
    notes += [f"{start}: {missing[what]}." for what, start in MISSING.items() if what in missing]
    return score_table(title, table, COLUMNS, notes=notes)


def _pretext(metrics: Mapping[str, Any]) -> Table | None:
    rows = []
    for split, scores in metrics.get("pretext", {}).items():
        for name, value in scores.items():
            if not name.startswith("improvement_"):
                continue
            loss = name.removeprefix("improvement_")
            trivial = scores[loss] / (1 - value) if scores.get(loss) and value < 1 else None
            row = [f"{split} subjects, {loss.replace('_', ' ')}", number(scores.get(loss)),
                   number(trivial), "" if value is None else f"{value:+.1%}"]  # fmt: skip
            rows.append(row)
        if scores.get("n_windows") == 0:
            rows.append([f"{split} subjects: no window can be used", "", "", ""])
        if "accuracy" in scores:
            chance = scores.get("trivial_accuracy")
            row = [f"{split} subjects, accuracy", number(scores["accuracy"]), number(chance), ""]
            rows.append(row)
    header = ["pretext task", "encoder", "best trivial predictor", "better by"]
    control = ", LABELS SHUFFLED" if metrics.get("objective", {}).get("shuffled") else ""
    return plain_table(f"Pretext task{control}", header, rows) if rows else None
