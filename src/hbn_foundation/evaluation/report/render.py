"""Render a report as plain text, as Markdown, or as a self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from io import BytesIO, StringIO
from textwrap import fill
from typing import Any

from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.report.sections import Picture, Report, Table

WIDTH = 110
TABLE_WIDTH = 120  # a score, its deviation and an interval stay on one line
DPI = 144
SHOWN_DPI = 96


def render_text(report: Report, markdown: bool = False) -> str:
    """Render title, lead and tables as plain text or Markdown."""
    wrap = str if markdown else partial(fill, width=WIDTH)
    parts = [f"# {report.title}" if markdown else report.title]
    parts += [wrap(text) for text in (report.lead, report.about) if text]
    tables = [section for section in report.sections if isinstance(section, Table)]
    for table in tables:
        lines = [f"## {table.title}" if markdown else table.title]
        if table.rows:
            lines.append(text_table(table.header, [row.cells for row in table.rows], markdown))
        lines += [wrap(note) for note in table.notes]
        parts.append(("\n\n" if markdown else "\n").join(lines))
    return "\n\n".join(parts) + "\n"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Lay out a table as text, the first column left-aligned, all others right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, pad_edge=markdown,
                show_edge=markdown, padding=(0, 1) if markdown else (0, 1, 0, 0))  # fmt: skip
    for place, name in enumerate(header):
        grid.add_column(name, justify="right" if place else "left", no_wrap=markdown or not place)
    for row in rows:
        grid.add_row(*row)
    width = 1000 if markdown else TABLE_WIDTH
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False,
                      legacy_windows=False, markup=False, highlight=False)  # fmt: skip
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def show(text: str) -> str:
    """Print a report as it is, whatever the width of the terminal, and return it."""
    print(text, flush=True)
    return text


def render_page(report: Report) -> str:
    """Render all sections as one HTML page with embedded figures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("hbn_foundation.evaluation.report", "."),
                              autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    sections = [(type(one).__name__, _picture(one) if isinstance(one, Picture) else one)
                for one in report.sections]  # fmt: skip
    colours = {name: getattr(style, name.upper())
               for name in ("ink", "muted", "pale", "grid", "accent", "warning")}  # fmt: skip
    page = environment.get_template("page.html")
    return page.render(report=report, sections=sections, colours=colours)


def _picture(picture: Picture) -> dict[str, Any]:
    """Encode the figure, and give the width that it is shown with."""
    stream = BytesIO()
    picture.figure.savefig(stream, format="png", dpi=DPI)
    return {
        "title": picture.title,
        "text": picture.text,
        "source": "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(),
        "width": round(picture.figure.get_figwidth() * SHOWN_DPI),
    }
