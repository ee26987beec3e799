"""The reports on fine-tuning: one model beside baselines, and plans compared over folds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.report.sections import (
    Column,
    Report,
    Table,
    folds_table,
    plain_table,
    score_table,
)
from hbn_foundation.evaluation.report.verdicts import (
    about_intervals,
    folds_notes,
    folds_verdict,
    split_verdict,
)
from hbn_foundation.evaluation.scorers import AHEAD, WITHIN_SUBJECTS, display_metric
from hbn_foundation.evaluation.wording import context_text, number, sample_text, strata_text
from hbn_foundation.scores import higher_is_better

POOLED = "window_auroc"
SHOWN = ("recording_auroc", "balanced_accuracy", "f1", "r", "mae", "r2")
BY_SUBJECT = "Each test subject's score over its own windows, averaged over subjects."


def finetuning_report(
    scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    recipe: LabelRecipe,
) -> Report:
    """Declare the report on one fine-tuned model, from what `evaluate_finetuned` gives.

    History and recipe of the training are for the table of its phases.
    """
    main = main_metric(metrics["classes"] is None, "strata" in metrics)
    table = by_method(scores)
    what = metrics["label"].get("column") or metrics["label"]["kind"]
    notes = [sample_text(metrics, table["method"], fitted=True),
             about_intervals(metrics["interval_missing"]), strata_text(metrics)]  # fmt: skip
    columns = [
        Column(main, interval=True),
        *(Column(name) for name in (POOLED, *SHOWN) if name != main),
        Column(f"{main}{AHEAD}", interval=True),
    ]
    if pd.isna(table.loc[table["method"] == FINE_TUNED, main].iloc[0]):
        lead = "No score: the test subjects are too few, or have one value only."
    else:
        lead = split_verdict(table, main, "On one split, the fine-tuned model")
        lead += " Repeated splits (finetuning_comparison) are needed to judge the difference."
    title = f"Fine-tuning for {what}: {count_of(metrics['n_subjects'], 'test subject')}"
    sections = [score_table("Scores", table, columns, notes=notes)]
    if within := [Column(name, interval=True) for name in WITHIN_SUBJECTS if name in table]:
        sections.append(score_table("Scores by subject", table, within, notes=[BY_SUBJECT]))
    sections.append(phases_table(history, recipe))
    return Report(title, lead, "", sections)


def phases_table(history: pd.DataFrame, recipe: LabelRecipe) -> Table:
    """Tabulate the judged metric of the validation subjects in each phase, against the aims.

    An aim whose phase never began is not reached.
    """
    name, aims, nan = recipe.judged_metric, recipe.aims, math.nan
    higher = higher_is_better(name)
    column = history[name if name in history else f"validation_{name}"]
    phases = history["phase"]
    rows = []
    for phase in range(1, max(phases.max(), len(aims)) + 1):
        epochs, known = history.loc[phases == phase, "epoch"], column[phases == phase].dropna()
        best = known.max() if higher else known.min()
        values = (known.iloc[0], best, known.iloc[-1]) if len(known) else (nan, nan, nan)
        aim = aims[phase - 1] if phase <= len(aims) else nan
        reached = "reached" if (best >= aim if higher else best <= aim) else "not reached"
        rows.append(
            [
                str(phase),
                f"{epochs.iloc[0]} to {epochs.iloc[-1]}" if len(epochs) else "not begun",
                *map(number, values),
                "" if math.isnan(aim) else f"{'>=' if higher else '<='} {aim:g}, {reached}",
            ]
        )
    notes = []
    for said in ("decision", "closing"):
        notes += [text for text in history.get(said, pd.Series(dtype=object)).dropna() if text][-1:]
    header = ["phase", "epochs", "after its first epoch", "best", "end", "aim"]
    return plain_table(f"Phases, {name} of the validation subjects", header, rows, notes)


def comparison_report(
    summary: pd.DataFrame, score: str, about: str = "", context: str = ""
) -> Report:
    """Declare the report on ways to fine-tune, compared over folds.

    Parameters
    ----------
    summary
        Of `comparison_table`.
    score
        The score that was compared.
    about
        Label and number of labelled subjects, for the title.
    context
        What all methods know beside a window, in words.
    """
    title = f"Fine-tuning{f' for {about}' if about else ''}"
    if summary.empty:
        return Report(title, "No fold was finished.", "", [])
    seeds = int(summary["seeds"].max())
    title += f" over {int(summary['folds'].max())} folds{f', {seeds} seeds' if seeds > 1 else ''}"
    best = ", ".join(summary.loc[summary["reference"], "name"]) or "none"
    reference = f"The best plan on validation subjects ({best})"
    notes = [*folds_notes(summary, reference), context_text(context)]
    titles = {"score": display_metric(score)}
    table = folds_table("Methods", summary, titles, [note for note in notes if note])
    return Report(title, folds_verdict(summary, reference), "", [table])
