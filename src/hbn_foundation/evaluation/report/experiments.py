"""The reports on learning curves and on sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.methods import (
    ALL_SHARES,
    FINE_TUNED,
    MODE_NAMES,
    PRETRAINED,
    display_name,
)
from hbn_foundation.evaluation.report.sections import Report, Table, plain_table
from hbn_foundation.evaluation.report.verdicts import about_intervals
from hbn_foundation.evaluation.scorers import display_metric, scorer_of
from hbn_foundation.evaluation.statistics import FIXED_MODEL
from hbn_foundation.evaluation.wording import interval, number, p_text


def learning_curve_report(summary: pd.DataFrame, about: str, context: str = "") -> Report:
    """Declare the report on a learning curve.

    Parameters
    ----------
    summary
        Of `curve_summary`.
    about, context
        The label, and what the features of all frozen rows have beside a window.
    """
    amounts = sorted(summary["n_subjects"].unique())
    title = display_metric(str(summary["metric"].iloc[0]))
    notes = [f"Features of frozen rows: {context}." if context else ""]
    notes.append(about_intervals(next(filter(None, summary["missing"]), None)))
    sections = [_over_amounts(title, summary, "score", ("low", "high"), notes)]
    for reference in (PRETRAINED, FINE_TUNED):
        column = f"{reference}_ahead"
        if column in summary and summary[column].notna().any():
            words = f"{display_name(reference)} ahead by"
            others = summary[summary["method"] != reference]
            paired = "Paired over test subjects, on the draws of both."
            ends = (f"{column}_low", f"{column}_high")
            sections.append(_over_amounts(words, others, column, ends, [paired], signed=True))
    most = summary[summary["n_subjects"] == amounts[-1]].iloc[0]
    few = summary[summary["n_subjects"] == amounts[0]]
    best = few.loc[few["score"].idxmax() if scorer_of(most["metric"]).greater_is_better
                   else few["score"].idxmin()]  # fmt: skip
    lead = ", ".join(
        f"with {row['n_subjects']} labelled subjects {row['name']} ({number(row['score'])})"
        for row in ((best, most) if len(amounts) > 1 else (most,))
    )
    size = f"{count_of(int(summary['n_test'].max()), 'test subject')}, "
    size += f"{count_of(int(summary['n_folds'].max()), 'fold')}, draws of labelled subjects: "
    size += ", ".join(
        f"{display_name(str(method))} {n}"
        for method, n in summary.groupby("method", sort=False)["n_draws"].max().items()
    )
    return Report(f"Labelled subjects: {about}", f"Best: {lead}.", f"{size}.", sections)


def _over_amounts(
    title: str, summary: pd.DataFrame, column: str, ends: tuple[str, str], notes: Sequence[str],
    signed: bool = False,
) -> Table:  # fmt: skip
    """Make a table with a row per method and a column per number of labelled subjects."""
    amounts = sorted(summary["n_subjects"].unique())
    rows = []
    for name, of_method in summary.groupby("name", sort=False):
        cells = of_method.set_index("n_subjects").reindex(amounts)
        rows.append([str(name)])
        for _, row in cells.iterrows():
            between = interval(row[ends[0]], row[ends[1]], signed=signed)
            value = number(row[column], signed=signed)
            rows[-1].append(f"{value} ({between})" if between else value)
    return plain_table(title, ["method", *map(str, amounts)], rows, notes)


def sweep_report(
    scored: pd.DataFrame,
    curves: pd.DataFrame,
    pairs: pd.DataFrame,
    savings: Mapping[str, Any],
    score: str,
    about: str,
) -> Report:
    """Declare the summary of a sweep; the same results give the same summary.

    Parameters
    ----------
    scored
        Of `score_jobs`.
    curves, pairs, savings
        Of `learning_curves`, `compare_modes`, `measured_savings`.
    score, about
        The score they are of, and the label.
    """
    curve_rows = [
        [MODE_NAMES[row["mode"]], _share(row["target_data_pct"]), f"{row['n_train']:.0f}",
         number(row["score"]), interval(row["low"], row["high"]) or "–", str(row["n_targets"]),
         str(row["n_jobs"])]
        for row in curves.to_dict("records")
    ]  # fmt: skip
    pair_rows = [
        [MODE_NAMES[row["first"]], MODE_NAMES[row["second"]], _share(row["target_data_pct"]),
         number(row["ahead_by"], signed=True), interval(row["low"], row["high"]) or "–",
         f"{row['ahead_in']} of {row['n_targets']}", p_text(row["p"]) or "–",
         p_text(row["p_holm"]) or "–"]
        for row in pairs.to_dict("records")
    ]  # fmt: skip
    curve_notes = [FIXED_MODEL] if curve_rows else ["No fine-tuning is finished."]
    pair_notes = [WILCOXON] if pair_rows else ["One mode only: nothing to compare."]
    return Report(
        f"Sweep: {about}",
        _counts(scored),
        "",
        [
            plain_table(
                f"{display_metric(score)} by share of the target's data",
                ["mode", "share", "windows", "mean", "95 % over subjects", "subjects", "jobs"],
                curve_rows, curve_notes,
            ),
            plain_table(
                "Modes compared on the same subjects",
                ["first", "second", "share", "ahead by", "95 %", "ahead in", "p", "p (Holm)"],
                pair_rows, pair_notes,
            ),
            plain_table("Time and origin", [], [], _origin(savings)),
        ],
    )  # fmt: skip


WILCOXON = (
    "Wilcoxon's signed-rank test over subjects; base set-ups and seeds are averaged first. Holm's "
    "correction, of the comparisons over all shares and of those at single shares."
)


def _counts(scored: pd.DataFrame) -> str:
    parts = []
    for kind, word in (("base", "bases"), ("finetune", "fine-tunings")):
        part = scored[scored["kind"] == kind]
        states = part["status"].value_counts()
        words = ", ".join(f"{count:,} {state}" for state, count in states.items())
        parts.append(f"{len(part):,} {word}: {words or 'none'}.")
    targets = scored["target"].dropna().nunique() if "target" in scored else 0
    parts.append(f"{count_of(targets, 'subject')} left out in turn, each tested on its last run.")
    return " ".join(parts)


def _origin(savings: Mapping[str, Any]) -> list[str]:
    said = [
        "Each job's entry in the store has its full specification, the versions of the libraries "
        "and its digests; `hbn-foundation bases verify` compares them."
    ]
    if savings["finetunings"]:
        said.append(
            f"{savings['bases']:,} bases took {savings['base_seconds']:,.0f} s, "
            f"{savings['finetunings']:,} fine-tunings {savings['finetune_seconds']:,.0f} s; "
            f"{savings['alone_seconds']:,.0f} s, had each fine-tuning trained its own base. Time "
            f"with shared bases over time without: {savings['ratio']:.3f}."
        )
    return said


def _share(value: Any) -> str:
    return "all" if value == ALL_SHARES else f"{100 * float(value):g} %"
