"""The parts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.methods import REFERENCE
from hbn_foundation.evaluation.scorers import AHEAD, display_metric, scorer_of
from hbn_foundation.evaluation.wording import interval_of, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNFAIR = "† not comparable: uses the test subjects' own answers."


class Row(NamedTuple):
    """A row of a table, its first cell the name; kind is model, baseline, reference or nothing."""

    cells: Sequence[str]
    kind: str = ""


class Table(NamedTuple):
    """A table.

    Attributes
    ----------
    title, header, rows
        Content.
    notes
        Sentences below it.
    text, terms
        Explanation of the table and of its columns; shown on a page only.
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
    """A report.

    Attributes
    ----------
    title
        Title of the report.
    lead
        The main result in sentences.
    about
        Data that the scores were computed on.
    sections
        In order.
    """

    title: str
    lead: str
    about: str
    sections: Sequence[Section]


class Column(NamedTuple):
    """A column of a table of scores.

    Attributes
    ----------
    name
        Metric; `<metric>_ahead` is how far the model is ahead of each method.
    title, digits
        By default those of the metric's scorer.
    factor
        What the values are multiplied by.
    interval
        Whether the interval is shown beside the value.
    meaning
        Definition of the score, for the page.
    """

    name: str
    title: str = ""
    digits: int | None = None
    factor: float = 1.0
    interval: bool = False
    meaning: str = ""

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
    columns
        Those that are shown.
    first
        Title of the first column.
    """
    shown = [one for one in columns if one.name in scores and scores[one.name].notna().any()]
    rows = []
    for _, row in scores.iterrows():
        mark = " †" if row["kind"] == REFERENCE else ""
        cells = [row["name"] + mark, *(one.cell(row) for one in shown)]
        rows.append(Row(cells, row["kind"]))
    unfair = [UNFAIR] if (scores["kind"] == REFERENCE).any() else []
    terms = [(one.heading, one.meaning) for one in shown if one.meaning]
    header = [first, *(one.heading for one in shown)]
    return Table(title, header, rows, [*unfair, *notes], text, terms)
