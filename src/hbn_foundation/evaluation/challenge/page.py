"""The evaluation report: one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.scoring import MODEL, REFERENCE
from hbn_foundation.evaluation.challenge.wording import interval_text, number
from hbn_foundation.evaluation.criteria import MET, NOT_MET
from hbn_foundation.evaluation.style import ACCENT, GRID, INK, MUTED, PALE, WARNING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 144
SHOWN_DPI = 96


class Card(NamedTuple):
    """One number that is read first."""

    title: str
    value: str
    text: str = ""


class Picture(NamedTuple):
    """A figure with its heading and how to read it."""

    title: str
    text: str
    figure: Figure


class Column(NamedTuple):
    """A column of the table of scores.

    Attributes
    ----------
    name
        Column of the scores.
    title
        As it is written.
    digits
        After the point.
    factor
        What the values are multiplied by.
    interval
        Whether the interval stands beside the value.
    drawn
        Whether it is drawn as well; then with a line at `at`.
    at
        What a method that knows nothing scores.
    signed
        Whether the sign is always written.
    """

    name: str
    title: str
    digits: int = 3
    factor: float = 1.0
    interval: bool = False
    drawn: bool = False
    at: float | None = None
    signed: bool = False


class ScoreTable(NamedTuple):
    """A table of scores, a heading over it and how to read it; `first` names its first column."""

    title: str
    text: str
    scores: pd.DataFrame
    columns: Sequence[Column]
    first: str = "method"


def score_card(title: str, row: pd.Series, name: str, digits: int = 3) -> Card:
    """Make a card of a score and its interval."""
    value = number(row[name], digits, signed=name.endswith("_ahead"))
    return Card(title, value or "–", interval_text(row, name, digits))


def evaluation_page(
    title: str,
    lead: str,
    about: str,
    cards: Sequence[Card],
    aims: pd.DataFrame,
    tables: Sequence[ScoreTable],
    pictures: Sequence[Picture],
    notes: Sequence[tuple[str, str]],
) -> str:
    """Write the page.

    Parameters
    ----------
    title
        Over the page.
    lead
        One or two sentences that say who wins.
    about
        On what the scores were made, in small print.
    cards
        Numbers that are read first.
    aims
        `criterion`, `aim`, `value`, `verdict`.
    tables
        Of scores, best first.
    pictures
        Figures.
    notes
        Terms and what they mean, for the end of the page.

    Returns
    -------
    str
        HTML; figures are inside it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("hbn_foundation.evaluation.challenge", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    colours = {"ink": INK, "muted": MUTED, "pale": PALE, "grid": GRID, "accent": ACCENT,
               "warning": WARNING}  # fmt: skip
    return environment.get_template("report.html").render(
        title=title,
        lead=lead,
        about=about,
        cards=cards,
        aims=[{**row, "met": {MET: "yes", NOT_MET: "no"}.get(row["verdict"], "")}
              for row in aims.to_dict("records")],
        tables=[_table(table) for table in tables],
        pictures=[_picture(picture) for picture in pictures],
        notes=notes,
        colours=colours,
    )  # fmt: skip


def _picture(picture: Picture) -> dict[str, object]:
    """Draw the figure into the page at the size it was made for."""
    stream = BytesIO()
    picture.figure.savefig(stream, format="png", dpi=DPI)
    data = stream.getvalue()
    width = int.from_bytes(data[16:20], "big")  # from the header of the PNG
    return {
        "title": picture.title,
        "text": picture.text,
        "source": "data:image/png;base64," + base64.b64encode(data).decode(),
        "width": round(width * SHOWN_DPI / DPI),
    }


def _table(table: ScoreTable) -> dict[str, object]:
    axes = {column.name: _axis(table.scores, column) for column in table.columns if column.drawn}
    rows = []
    for _, row in table.scores.iterrows():
        cells = []
        for column in table.columns:
            style = (column.digits, column.factor, column.signed)
            cell: dict[str, object] = {"text": number(row[column.name], *style)}
            if column.interval:
                cell["interval"] = interval_text(row, column.name, *style)
            if column.drawn:
                cell["drawn"] = _drawn(row, column, axes[column.name])
            cells.append(cell)
        rows.append({"name": row["name"], "kind": row["kind"], "cells": cells,
                     "ours": row["kind"] == MODEL, "unfair": row["kind"] == REFERENCE})  # fmt: skip
    first_unfair = next((place for place, row in enumerate(rows) if row["unfair"]), None)
    return {"title": table.title, "text": table.text, "columns": table.columns, "rows": rows,
            "first": table.first, "first_unfair": first_unfair}  # fmt: skip


def _axis(scores: pd.DataFrame, column: Column) -> tuple[float, float]:
    """Choose the axis that intervals are drawn on; one wild method does not set it."""
    fair = scores[scores["kind"] != REFERENCE]
    values = pd.concat([scores[column.name], fair.get(f"{column.name}_low"),
                        fair.get(f"{column.name}_high")])  # fmt: skip
    values = values.dropna().to_numpy(float)
    known = [] if column.at is None else [column.at]
    if not len(values):
        return (0.0, 1.0)
    middle, spread = np.median(values), max(np.subtract(*np.quantile(values, [0.9, 0.1])), 1e-3)
    inside = values[np.abs(values - middle) <= 2.5 * spread]
    low, high = min([*inside, *known]), max([*inside, *known])
    room = 0.06 * (high - low) or 0.1
    return float(low - room), float(high + room)


def _drawn(row: pd.Series, column: Column, axis: tuple[float, float]) -> dict[str, object] | None:
    """Places in per cent of the axis; what lies outside is drawn at its end."""
    if pd.isna(row[column.name]):
        return None
    low, high = axis

    def place(value: float) -> float:
        return round(float(np.clip((value - low) / (high - low), 0, 1)) * 100, 2)

    ends = [row.get(f"{column.name}_{end}", np.nan) for end in ("low", "high")]
    return {
        "value": place(row[column.name]),
        "ends": None if pd.isna(ends).any() else [place(end) for end in ends],
        "at": None if column.at is None else place(column.at),
        "outside": not low <= row[column.name] <= high,
    }
