"""The table of methods over repeated splits, and the sentences below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.report.sections import Table, plain_table
from hbn_foundation.evaluation.report.verdicts import folds_verdict, missing_intervals
from hbn_foundation.evaluation.statistics import CORRECTED_T
from hbn_foundation.evaluation.wording import channels_text, interval, mean_sd, number, p_text


def folds_table(
    title: str,
    summary: pd.DataFrame,
    scores: Mapping[str, str],
    costs: Mapping[str, tuple[str, Callable[[Any], str]]] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Make the table.

    Parameters
    ----------
    title
        Over the table.
    summary
        Of `comparison_table` or `summarise_folds`.
    scores
        Its columns that are means, with their titles; `<column>_sd` stands beside each.
    costs
        Further columns with their titles and formats.
    notes
        Sentences under the table.
    """
    costs = costs or {}
    rows = []
    for _, row in summary.iterrows():
        ours = row["reference"]
        rows.append(
            [
                row["name"] + (" *" if ours else ""),
                *(mean_sd(row[score], row[f"{score}_sd"]) for score in scores),
                "" if ours else number(row["ahead_by"], signed=True),
                "" if ours else interval(row["ahead_low"], row["ahead_high"], signed=True),
                "" if pd.isna(row["ahead_in"]) else f"{int(row['ahead_in'])}/{row['folds']}",
                p_text(row["p_holm"]),
                *(write(row[name]) for name, (_, write) in costs.items()),
            ]
        )
    header = ["method", *scores.values(), "ahead by", "95 %", "folds", "p (Holm)",
              *(words for words, _ in costs.values())]  # fmt: skip
    return plain_table(title, header, rows, notes)


def folds_sentences(summary: pd.DataFrame, reference: str, beside: Mapping[str, str]) -> list[str]:
    """Describe the folds and the columns, and compare the reference with the others.

    Parameters
    ----------
    summary
        As for `folds_table`.
    reference, beside
        See `folds_verdict`.
    """
    marked = reference[0].lower() + reference[1:]
    return [
        _sample(summary),
        f"* {marked}; ahead by: how far it is ahead of the method, and in how many folds. 95 % and "
        f"p: {CORRECTED_T}",
        *missing_intervals(summary),
        folds_verdict(summary, reference, beside),
    ]


def _sample(summary: pd.DataFrame) -> str:
    """Describe the data of a fold."""
    names = ["n_train", "n_test", "train_windows", "fitted_windows", "n_windows", "n_channels"]
    means = summary.reindex(columns=names).mean()
    train = f"{means['n_train']:.3g} training subjects"
    test = f"{means['n_test']:.3g} test subjects"
    channels = ""
    if pd.notna(means["train_windows"]):
        train += f" with {means['train_windows']:,.0f} windows"
        if means["fitted_windows"] < means["train_windows"] - 0.5:
            train += f" (the baselines' are subsampled evenly to {means['fitted_windows']:,.0f})"
        test += f" with {means['n_windows']:,.0f}"
        methods = summary.loc[summary["is_baseline"], "method"]
        channels = f" {channels_text(methods, int(means['n_channels']))}"
    return f"Mean ± sd over folds, each of {train} and {test}.{channels}"
