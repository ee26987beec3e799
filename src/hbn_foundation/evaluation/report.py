"""The report that a run ends with: scores of all methods, winners and losers alike, and aims.

It is plain text, so that a terminal, a log file and a saved report show the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.methods import PRETRAINED, written
from hbn_foundation.evaluation.sample import sample_text
from hbn_foundation.evaluation.statistics import (
    CORRECTED_T,
    FIXED_MODEL,
    SIGNIFICANT,
    count_of,
    level,
)

WIDTH = 110
TABLE_WIDTH = 120  # a score, its deviation and an interval stay on one line


def report_text(
    metrics: Mapping[str, Any],
    scores: pd.DataFrame,
    fold_summary: pd.DataFrame | None,
    criteria: pd.DataFrame,
) -> str:
    """Write the report.

    Parameters
    ----------
    metrics, scores
        Of `evaluate_foundation`.
    fold_summary
        Of `summarise_folds`; None or empty without repeated splits.
    criteria
        Of `criteria_table`.

    Returns
    -------
    str
        Tables of at most 110 columns, without escape codes.
    """
    parts = [_pretext(metrics), _single_split(metrics, scores)]
    if fold_summary is not None and not fold_summary.empty:
        parts.append(folds_text(fold_summary))
    parts.append(_criteria(criteria))
    return "\n\n".join(part for part in parts if part) + "\n"


def folds_text(summary: pd.DataFrame) -> str:
    """Write the scores over repeated splits, and in words who wins.

    Parameters
    ----------
    summary
        Of `summarise_folds`.
    """
    rows = [
        [
            row["name"] + (" *" if row["best_baseline"] else ""),
            _mean_sd(row, "window_auroc"),
            _mean_sd(row, "recording_auroc"),
            _mean_sd(row, "balanced_accuracy"),
            signed(row["pretrained_ahead_by"]),
            ends_text(row["pretrained_ahead_low"], row["pretrained_ahead_high"]),
            _in_folds(row),
            p_text(row["p_holm"]),
        ]
        for _, row in summary.iterrows()
    ]
    header = ["method", "window AUROC", "recording", "balanced", "ahead by", "95 %", "folds",
              "p (Holm)"]  # fmt: skip
    n_folds = int(summary["folds"].iloc[0])
    title = (
        f"Frozen probe over {n_folds} folds of subjects (mean ± sd; ahead by: pretrained minus "
        f"method{'; * best baseline' if summary['best_baseline'].any() else ''})"
    )
    n_train, n_test = (f"{summary[name].mean():.3g}" for name in ("n_train", "n_test"))
    sample = f"A fold has {n_train} training and {n_test} test subjects. 95 % and p: {CORRECTED_T}"
    parts = [table(title, header, rows), fill(sample, WIDTH), *missing_folds(summary),
             _pretraining(summary), verdict(summary)]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _in_folds(row: pd.Series) -> str:
    won = row["pretrained_ahead_in"]
    return "" if pd.isna(won) else f"{int(won)}/{row['folds']}"


def missing_folds(summary: pd.DataFrame) -> list[str]:
    """Say in a line each why rows have no interval."""
    reasons = summary.loc[summary["missing"].fillna("") != "", ["missing", "name"]]
    return [
        f"No interval and no p for {', '.join(names)}: {reason}."
        for reason, names in reasons.groupby("missing")["name"]
    ]


def _pretraining(summary: pd.DataFrame) -> str:
    """Say how the pretext task went over the folds, and how fast."""
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


def verdict(summary: pd.DataFrame) -> str:
    """Say in words how the pretrained encoder compares with the best baseline.

    Differences with a corrected p above .05 are called not significant.
    """
    if PRETRAINED not in set(summary["method"]) or not summary["best_baseline"].any():
        return ""
    best = summary[summary["best_baseline"]].iloc[0]
    gap, p = best["pretrained_ahead_by"], best["p_holm"]
    sure = "significant" if p < SIGNIFICANT else "not significant"
    if level(gap):
        return f"The pretrained encoder is level with the best baseline ({best['name']})."
    if gap > 0:
        line = (
            f"The pretrained encoder leads the best baseline ({best['name']}) by {gap:.3f} "
            f"on average, in {int(best['pretrained_ahead_in'])} of {best['folds']} folds "
            f"({p_is(p)}, {sure})."
        )
        ahead = summary[(summary["p_holm"] < SIGNIFICANT) & (summary["pretrained_ahead_by"] > 0)]
        return f"{line}\nSignificantly ahead of: {', '.join(ahead['name']) or 'none'}."
    losers = summary.loc[summary["pretrained_ahead_by"] < 5e-4, "name"]
    return (
        f"The best baseline ({best['name']}) beats the pretrained encoder by {-gap:.3f} "
        f"({p_is(p)}, {sure}).\nNot beaten: {', '.join(losers)}."
    )


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table as plain text: first column to the left, all others to the right."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD,
                 pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))  # fmt: skip
    for place, name in enumerate(header):
        grid.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in rows:
        grid.add_row(*row)
    console = Console(file=StringIO(), width=TABLE_WIDTH, color_system=None, force_terminal=False,
                      legacy_windows=False, markup=False, highlight=False)  # fmt: skip
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def show(text: str) -> None:
    """Print a report to standard output, with a little colour on a terminal."""
    from rich.console import Console
    from rich.highlighter import RegexHighlighter
    from rich.theme import Theme

    class Verdicts(RegexHighlighter):
        base_style = "report."
        highlights = [  # noqa: RUF012 - rich's own interface
            r"(?P<good>(?<!not )\bmet\b)",
            r"(?P<bad>\bnot met\b)",
            r"(?P<pale>\b(?:not applicable|undecided)\b)",
            rf"(?P<ours>{written(PRETRAINED)})",
        ]

    theme = Theme({"report.good": "green", "report.bad": "red", "report.pale": "bright_black",
                   "report.ours": "bold"})  # fmt: skip
    console = Console(highlighter=Verdicts(), theme=theme, markup=False, soft_wrap=True)
    console.print(text)


def _single_split(metrics: Mapping[str, Any], scores: pd.DataFrame) -> str:
    ours = scores.loc[scores["method"] == PRETRAINED, "window_auroc"].iloc[0]
    rows = [
        [
            str(row["name"]),
            _number(row["window_auroc"]),
            _interval(row),
            _number(row["recording_auroc"]),
            _number(row["balanced_accuracy"]),
            ahead_text(row),
        ]
        for _, row in scores.iterrows()
    ]
    header = ["method", "window AUROC", "95 %", "recording", "balanced", "ahead by (95 %)"]
    label, counts = metrics["label"], metrics["subjects"]
    control = ", LABELS SHUFFLED" if label.get("shuffled") else ""
    title = (
        f"Frozen probe: {' / '.join(label['classes'])}{control} - {counts['train']} training, "
        f"{counts['validation']} validation, {count_of(counts['test'], 'test subject')}"
    )
    missing = metrics.get("missing", {})
    sample = sample_text(metrics["sample"], scores["method"], metrics["n_channels"])
    ends = [] if scores["window_auroc_low"].isna().all() else [FIXED_MODEL]
    text = "\n".join([table(title, header, rows), fill(sample, WIDTH), *ends, *_missing(missing)])
    if "score" in missing:
        return text
    others = scores[scores["method"] != PRETRAINED]
    if others.empty:
        return text
    best = others.sort_values("window_auroc").iloc[-1]
    gap = float(ours) - float(best["window_auroc"])
    word = "level with" if level(gap) else f"{abs(gap):.3f} {'above' if gap > 0 else 'below'}"
    return (
        f"{text}\nPretrained is {word} the best baseline ({best['name']}) on this "
        "one split; only repeated splits tell how surely."
    )


def _missing(missing: Mapping[str, str]) -> list[str]:
    """Say in sentences what there is no number for."""
    starts = {"score": "No score", "interval": "No interval", "choice": "Note"}
    return [f"{start}: {missing[what]}." for what, start in starts.items() if what in missing]


def _pretext(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split, scores in metrics.get("pretext", {}).items():
        for name, value in scores.items():
            if not name.startswith("improvement_"):
                continue
            loss = name.removeprefix("improvement_")
            trivial = scores[loss] / (1 - value) if scores.get(loss) and value < 1 else None
            row = [f"{split} subjects, {loss.replace('_', ' ')}", _number(scores.get(loss)),
                   _number(trivial), "" if value is None else f"{value:+.1%}"]  # fmt: skip
            rows.append(row)
        if scores.get("n_windows") == 0:
            rows.append([f"{split} subjects: no window can be used", "", "", ""])
        if "accuracy" in scores:
            chance = scores.get("trivial_accuracy")
            row = [f"{split} subjects, accuracy", _number(scores["accuracy"]), _number(chance), ""]
            rows.append(row)
    header = ["pretext task", "encoder", "best trivial predictor", "better by"]
    control = ", LABELS SHUFFLED" if metrics.get("objective", {}).get("shuffled") else ""
    return table(f"Pretext task{control}", header, rows) if rows else ""


def _criteria(criteria: pd.DataFrame) -> str:
    rows = [[str(value) for value in row] for row in criteria.itertuples(index=False)]
    return table("Aims", ["criterion", "aim", "value", "verdict"], rows)


def _number(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def signed(value: Any) -> str:
    """Write a difference; nothing where there is none."""
    return "" if value is None or pd.isna(value) else f"{round(value, 3) + 0.0:+.3f}"


def ends_text(low: Any, high: Any) -> str:
    """Write the ends of a difference's interval; nothing where there are none."""
    return "" if pd.isna(low) or pd.isna(high) else f"{low:+.3f} to {high:+.3f}"


def ahead_text(row: pd.Series) -> str:
    """Write how far the model is ahead of a method, with the interval; nothing for itself."""
    ends = ends_text(row.get("ahead_low"), row.get("ahead_high"))
    return signed(row.get("ahead_by")) + (f" ({ends})" if ends else "")


def _mean_sd(row: pd.Series, score: str) -> str:
    if pd.isna(row[score]):
        return ""
    deviation = row[f"{score}_sd"]
    return f"{row[score]:.3f}" + ("" if pd.isna(deviation) else f" ± {deviation:.3f}")


def _interval(row: pd.Series) -> str:
    low, high = row.get("window_auroc_low"), row.get("window_auroc_high")
    return "" if pd.isna(low) or pd.isna(high) else f"{low:.3f} to {high:.3f}"


def p_text(value: Any) -> str:
    """Write a p value; nothing where there is none."""
    if value is None or pd.isna(value):
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def p_is(value: Any) -> str:
    """Write a p value for a sentence."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text or 'unknown'}"
