"""The parts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.methods import REFERENCE
from hbn_foundation.evaluation.scorers import AHEAD, display_metric, scorer_of
from hbn_foundation.evaluation.wording import (
    count_text,
    interval,
    interval_of,
    mean_sd,
    number,
    p_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNFAIR = "† not comparable: uses the test subjects' own answers."


class Row(NamedTuple):
    """A row of a table, its first cell the name; kind is model, baseline, reference or nothing."""

    cells: Sequence[str]
    kind: str = ""


class Table(NamedTuple):
    """A table with sentences below it (`notes`).

    On a page alone, an explanation (`text`) stands above it and one of its columns (`terms`) below.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    text: str = ""
    terms: Sequence[tuple[str, str]] = ()


class Picture(NamedTuple):
    """A figure with its title and an explanation; shown on a page only."""

    title: str
    text: str
    figure: Figure


Section = Table | Picture


class Report(NamedTuple):
    """A report."""

    title: str
    lead: str  # the main result in sentences
    about: str  # data that the scores were computed on
    sections: Sequence[Section]


class Column(NamedTuple):
    """A column of a table of scores."""

    name: str  # metric; `<metric>_ahead` is how far the model is ahead of each method
    title: str = ""  # by default that of the metric's scorer, as the digits
    digits: int | None = None
    factor: float = 1.0  # what the values are multiplied by
    interval: bool = False  # whether the interval is shown beside the value
    meaning: str = ""  # definition of the score, for the page

    @property
    def heading(self) -> str:
        """Title of the column."""
        if self.title:
            return self.title
        return "ahead by" if self.name.endswith(AHEAD) else display_metric(self.name)

    def cell(self, row: pd.Series) -> str:
        """Format the score of a row, with its interval where that is shown."""
        digits = scorer_of(self.name).digits if self.digits is None else self.digits
        style: Any = {"digits": digits, "factor": self.factor, "signed": self.name.endswith(AHEAD)}
        ends = interval_of(row, self.name, **style) if self.interval else ""
        return number(row[self.name], **style) + (f" ({ends})" if ends else "")


def plain_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> Table:
    """Make a table of texts; empty notes are left out."""
    return Table(title, header, [Row(row) for row in rows], [note for note in notes if note])


def score_table(
    title: str,
    scores: pd.DataFrame,
    columns: Sequence[Column],
    text: str = "",
    first: str = "method",
    notes: Sequence[str] = (),
) -> Table:
    """Make a table of scores, one row per method; a score that no method has is left out.

    Parameters
    ----------
    title, text, notes
        See `Table`.
    scores
        Of `by_method`, best first.
    columns, first
        Those that are shown, and the title of the first.
    """
    shown = [one for one in columns if one.name in scores and scores[one.name].notna().any()]
    rows = []
    for _, row in scores.iterrows():
        mark = " †" if row["kind"] == REFERENCE else ""
        rows.append(Row([row["name"] + mark, *(one.cell(row) for one in shown)], row["kind"]))
    unfair = [UNFAIR] if (scores["kind"] == REFERENCE).any() else []
    terms = [(one.heading, one.meaning) for one in shown if one.meaning]
    header = [first, *(one.heading for one in shown)]
    return Table(title, header, rows, [*unfair, *notes], text, terms)


def folds_table(
    title: str, summary: pd.DataFrame, scores: Mapping[str, str], notes: Sequence[str] = ()
) -> Table:
    """Make a table of methods over repeated splits.

    Parameters
    ----------
    title, notes
        See `Table`.
    summary
        Of `comparison_table` or `summarise_folds`; epochs, seconds and trained parameters are
        shown where it has them.
    scores
        Its columns that are means, with their titles; `<column>_sd` stands beside each.
    """
    costs = {name: cost for name, cost in COSTS.items() if name in summary}
    rows = [
        [
            row["name"] + (" *" if row["reference"] else ""),
            *(mean_sd(row[score], row[f"{score}_sd"]) for score in scores),
            number(row["ahead_by"], signed=True),
            interval(row["ahead_low"], row["ahead_high"], signed=True),
            "" if pd.isna(row["ahead_in"]) else f"{row['ahead_in']:.0f}/{row['folds']}",
            p_text(row["p_holm"]),
            *(write(row[name]) for name, (_, write) in costs.items()),
        ]
        for _, row in summary.iterrows()
    ]
    header = ["method", *scores.values(), "ahead by", "95 %", "folds", "p (Holm)",
              *(words for words, _ in costs.values())]  # fmt: skip
    return plain_table(title, header, rows, notes)


COSTS = {
    "epochs": ("epochs", lambda value: number(value, 1)),
    "seconds": ("s", lambda value: "" if pd.isna(value) else f"{value:,.0f}"),
    "trainable": ("trained", count_text),
}
