"""The summary page of a sweep, in Markdown: the same results give the same page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.statistics import FIXED_MODEL, count_of
from hbn_foundation.evaluation.sweep_scores import ALL_SHARES, MODE_NAMES, Savings


def summary_page(
    scored: pd.DataFrame,
    curves: pd.DataFrame,
    pairs: pd.DataFrame,
    savings: Savings,
    score: str,
    about: str,
) -> str:
    """Write the page.

    Parameters
    ----------
    scored
        Of `score_jobs`.
    curves, pairs, savings
        Of `learning_curves`, `compare_modes`, `measured_savings`.
    score
        The score they are of.
    about
        What was learned.
    """
    title = score_title(score)
    parts = [
        f"# Sweep: {about}",
        _counts(scored),
        f"## {title} by share of the target's data",
        _curves(curves),
        "## Modes compared on the same subjects",
        _pairs(pairs),
        "## Time",
        _time(savings),
        "## Where these numbers come from",
        _origin(scored),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(scored: pd.DataFrame) -> str:
    lines = []
    for kind, word in (("base", "bases"), ("finetune", "fine-tunings")):
        part = scored[scored["kind"] == kind]
        states = part["status"].value_counts()
        words = ", ".join(f"{count:,} {state}" for state, count in states.items())
        lines.append(f"- {len(part):,} {word}: {words or 'none'}")
    targets = scored["target"].dropna().nunique() if "target" in scored else 0
    lines.append(f"- {count_of(targets, 'subject')} left out in turn, each tested on its last run")
    return "\n".join(lines)


def _curves(curves: pd.DataFrame) -> str:
    if curves.empty:
        return "No fine-tuning is finished."
    rows = [
        [
            MODE_NAMES[row["mode"]],
            _share(row["target_data_pct"]),
            f"{row['n_train']:.0f}",
            f"{row['score']:.3f}",
            _interval(row["low"], row["high"]),
            row["n_targets"],
            row["n_jobs"],
        ]
        for row in _records(curves)
    ]
    names = ["mode", "share", "windows", "mean", "95 % over subjects", "subjects", "jobs"]
    return f"{table(names, rows)}\n\n{FIXED_MODEL}"


def _pairs(pairs: pd.DataFrame) -> str:
    if pairs.empty:
        return "One mode only: nothing to compare."
    rows = [
        [
            MODE_NAMES[row["first"]],
            MODE_NAMES[row["second"]],
            _share(row["target_data_pct"]),
            f"{row['ahead_by']:+.3f}",
            _interval(row["low"], row["high"]),
            f"{row['ahead_in']} of {row['n_targets']}",
            _p(row["p"]),
            _p(row["p_holm"]),
        ]
        for row in _records(pairs)
    ]
    names = ["first", "second", "share", "ahead by", "95 %", "ahead in", "p", "p (Holm)"]
    return table(names, rows) + (
        "\n\nWilcoxon's signed-rank test over subjects; base set-ups and seeds are averaged first. "
        "Holm's correction, of the comparisons over all shares and of those at single shares."
    )


def _time(savings: Savings) -> str:
    if not savings.finetunings:
        return "Nothing is measured yet."
    return "\n".join(
        [
            f"- {savings.bases:,} bases took {savings.base_seconds:,.0f} s, "
            f"{savings.finetunings:,} fine-tunings {savings.finetune_seconds:,.0f} s",
            f"- had each fine-tuning trained its own base: {savings.alone_seconds:,.0f} s",
            f"- time with shared bases over time without: {savings.ratio:.3f}",
        ]
    )


def _origin(scored: pd.DataFrame) -> str:
    names = "".join(sorted(scored["hash"]))
    digest = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
    return (
        f"The plan of these {len(scored):,} jobs has the hash `{digest}`. Each job's entry in the "
        "store has its full specification, the versions of the libraries and its digests; "
        "`hbn-foundation bases verify` compares them. The same command on the same data trains "
        "nothing again and writes this page again."
    )


def _records(content: pd.DataFrame) -> list[dict[Any, Any]]:
    return content.to_dict("records")


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table in Markdown."""
    head = f"| {' | '.join(names)} |"
    line = f"|{'---|' * len(names)}"
    return "\n".join([head, line, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _share(value: Any) -> str:
    return "all" if value == ALL_SHARES else f"{100 * float(value):g} %"


def _interval(low: float, high: float) -> str:
    return "–" if pd.isna(low) or pd.isna(high) else f"{low:.3f} to {high:.3f}"


def _p(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}" if value >= 0.001 else "< .001"
