"""The report on a foundation model: pretext task, frozen probe, criteria."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures.scores import folds_figure, scores_figure
from hbn_foundation.evaluation.folds import summarise_folds
from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.methods import PRETRAINED
from hbn_foundation.evaluation.report.criteria import criteria_section
from hbn_foundation.evaluation.report.sections import (
    Column,
    Report,
    Table,
    folds_table,
    plain_table,
    score_table,
)
from hbn_foundation.evaluation.report.verdicts import folds_notes, folds_verdict, split_verdict
from hbn_foundation.evaluation.scorers import AHEAD, display_metric
from hbn_foundation.evaluation.statistics import FIXED_MODEL
from hbn_foundation.evaluation.wording import interval, number, sample_text, strata_text
from hbn_foundation.scores import DRIFT, WITHIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("window_auroc", "recording_auroc", "balanced_accuracy")
DRIFT_OF = "Share of each slow output's variance within recordings that a line in time predicts,"
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
        lead = split_verdict(table, shown_scores(table)[0], "On one split, the pretrained encoder")
        lead += " Repeated splits are needed to judge the difference."
    sections = [_pretext(metrics), _probe(metrics, table)]
    if fold_summary is not None and not fold_summary.empty:
        sections.append(probe_folds(fold_summary))
    sections.append(criteria_section(criteria))
    return Report("Foundation model", lead, "", [one for one in sections if one is not None])


def probe_figure(scores: pd.DataFrame, folds: pd.DataFrame | None = None) -> Figure:
    """Draw the scores of the frozen probe, over repeated splits (`folds`) where there are some."""
    title = "Frozen probe on test subjects"
    if folds is not None and not folds.empty:
        return folds_figure(folds, summarise_folds(folds), _titles(folds), title)
    table = _best_first(scores)
    return scores_figure(table, _titles(table), title)


def shown_scores(table: pd.DataFrame) -> tuple[str, ...]:
    """Name the scores that are shown of a table with them as columns, the main one first."""
    return (WITHIN, *SCORES) if WITHIN in table else SCORES


def _titles(table: pd.DataFrame) -> dict[str, str]:
    return {name: display_metric(name) for name in shown_scores(table)}


def _best_first(scores: pd.DataFrame) -> pd.DataFrame:
    table = by_method(scores)
    return table.sort_values(shown_scores(table)[0], ascending=False, kind="stable")


def probe_folds(summary: pd.DataFrame) -> Table:
    """Make the table of the frozen probe over repeated splits, of `summarise_folds`."""
    reference = "The pretrained encoder"
    notes = [*folds_notes(summary, reference), folds_verdict(summary, reference)]
    ours = summary[summary["method"] == PRETRAINED].iloc[:1]
    if ours["pretext_improvement"].notna().any():
        gain = [
            f"{ours[f'pretext_improvement{end}'].iloc[0]:+.1%}" for end in ("", "_low", "_high")
        ]
        notes.append(
            f"Pretext task, test subjects: {gain[0]} against the best trivial predictor (folds: "
            f"{gain[1]} to {gain[2]}); "
            f"{ours['windows_per_second'].iloc[0]:,.0f} windows/s in pretraining."
        )
    title = f"Frozen probe over {int(summary['folds'].iloc[0])} folds of subjects"
    return folds_table(title, summary, _titles(summary), notes)


def _probe(metrics: Mapping[str, Any], table: pd.DataFrame) -> Table:
    label, counts = metrics["label"], metrics["subjects"]
    control = ", LABELS SHUFFLED" if label.get("shuffled") else ""
    title = (
        f"Frozen probe: {' / '.join(label['classes'])}{control} - {counts['train']} training, "
        f"{counts['validation']} validation, {count_of(counts['test'], 'test subject')}"
    )
    missing = metrics.get("missing", {})
    main, *more = shown_scores(table)
    columns = [Column(main, interval=True), *map(Column, more),
               Column(f"{main}{AHEAD}", interval=True)]  # fmt: skip
    notes = [sample_text(metrics, table["method"]), strata_text(metrics)]
    if interval(*table.iloc[0][[f"{main}_low", f"{main}_high"]]):
        notes.append(FIXED_MODEL)
    notes += [f"{start}: {missing[what]}." for what, start in MISSING.items() if what in missing]
    return score_table(title, table, columns, notes=[note for note in notes if note])


def _pretext(metrics: Mapping[str, Any]) -> Table | None:
    rows, notes = [], []
    for split, scores in metrics.get("pretext", {}).items():
        of = f"{split} subjects"
        for loss in [name for name in scores if f"improvement_{name}" in scores]:
            gain, value = scores[f"improvement_{loss}"], scores[loss]
            trivial = value / (1 - gain) if value and gain is not None and gain < 1 else None
            better = "" if gain is None else f"{gain:+.1%}"
            rows.append([f"{of}, {loss.replace('_', ' ')}", number(value), number(trivial), better])
        if scores.get("n_windows") == 0:
            rows.append([f"{of}: no window can be used", "", "", ""])
        if "accuracy" in scores:
            chance = number(scores.get("trivial_accuracy"))
            rows.append([f"{of}, accuracy", number(scores["accuracy"]), chance, ""])
        shares = [number(value) for name, value in scores.items() if name.startswith(DRIFT)]
        if shares:
            notes.append(f"{DRIFT_OF} {of}: {', '.join(shares)}.")
    header = ["pretext task", "encoder", "best trivial predictor", "better by"]
    control = ", LABELS SHUFFLED" if metrics.get("objective", {}).get("shuffled") else ""
    return plain_table(f"Pretext task{control}", header, rows, notes) if rows else None
