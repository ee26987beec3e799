"""Read the tables (.tsv) and JSON files beside recordings, also where they deviate from BIDS.

A file that exists and cannot be read raises an error that names it; it is not treated as missing.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hbn_foundation.errors import count_of

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DELIMITERS = ("\t", ";", ",")


class UnreadableSidecar(ValueError):  # noqa: N818 - a state of the data, not a fault of the code
    """A sidecar that exists and cannot be read; the message names the file and the reason."""


class Table(NamedTuple):
    """A table as text.

    Attributes
    ----------
    columns
        Names of the columns, stripped.
    rows
        One dictionary per row that is not empty: every column's text, stripped, ``""`` where the
        row ends early.
    notes
        Deviations from BIDS that were read nevertheless, a sentence each.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    notes: list[str]


def read_text(path: Path) -> tuple[str, list[str]]:
    """Read a text file in UTF-8 (with or without byte order mark), UTF-16 or cp1252 / latin-1.

    Returns
    -------
    text : str
    notes : list of str
        A sentence that names the encoding where it is not UTF-8.

    Raises
    ------
    UnreadableSidecar
        The file is a broken link, is not readable, or is not text.
    OSError
        Any other failure of the disk.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableSidecar(f"{path.name}: a link to a file that is not there") from error
    except (PermissionError, IsADirectoryError) as error:
        raise UnreadableSidecar(f"{path.name}: cannot be read ({error.strerror})") from error
    try:
        text, encoding = _decoded(content)
    except UnicodeDecodeError as error:
        raise UnreadableSidecar(f"{path.name}: no text ({error.reason})") from error
    if "\0" in text:
        raise UnreadableSidecar(f"{path.name}: no text (it holds zero bytes)")
    is_utf_8 = encoding.startswith("utf-8")
    return text, [] if is_utf_8 else [f"{path.name} is not in UTF-8: read as {encoding}"]


def _decoded(content: bytes) -> tuple[str, str]:
    """Return text and encoding; latin-1, which decodes any byte, comes last."""
    encodings = [e for mark, e in BYTE_ORDER_MARKS.items() if content.startswith(mark)]
    if not encodings and b"\0" in content[:2]:
        encodings = ["utf-16-be" if content[:1] == b"\0" else "utf-16-le"]
    for encoding in encodings or ("utf-8", "cp1252"):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            if encodings:
                raise
    return content.decode("latin-1"), "latin-1"


def read_table(path: Path, columns: Sequence[str] = ()) -> Table:
    """Read a tab-separated table with a header.

    Without a tab in its header, a table separated by semicolons or commas is read as that, and one
    whose rows all have as many words as its header as separated by spaces.

    Parameters
    ----------
    path
        The file.
    columns
        Names of columns that are found in another case, too: `onset` by ``Onset``.

    Raises
    ------
    UnreadableSidecar, OSError
        As `read_text`; also, a cell is longer than any text.
    """
    text, notes = read_text(path)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    header = text.lstrip("\n").partition("\n")[0]
    delimiter = next((d for d in DELIMITERS if d in header), "\t")
    if delimiter not in header and _is_of_words(text):
        text, delimiter = re.sub(r"[^\S\n]+", " ", text), " "
    if delimiter != "\t":
        notes.append(f"{path.name} is separated by {delimiter!r} instead of tabs")
    try:
        cells = _cells(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error:  # an unclosed quotation mark is read as a plain character
        notes.append(f"{path.name} has quotation marks out of place")
        try:
            cells = _cells(text, delimiter, csv.QUOTE_NONE)
        except csv.Error as error:
            raise UnreadableSidecar(f"{path.name}: not a tab-separated table ({error})") from error
    if not cells:
        return Table([], [], [*notes, f"{path.name} is empty"])
    wanted = {name.lower(): name for name in columns if name not in cells[0]}
    names, body = [wanted.get(name.lower(), name) for name in cells[0]], cells[1:]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        notes.append(f"{path.name} names {', '.join(twice)} twice: the first column counts")
    n_long = sum(any(row[len(names) :]) for row in body)
    if n_long:
        notes.append(f"{path.name}: more cells than the header in {count_of(n_long, 'row')}")
    places = {name: names.index(name) for name in names if name}
    rows = [{n: row[i] if i < len(row) else "" for n, i in places.items()} for row in body]
    return Table(list(places), rows, notes)


def read_rows(path: Path, notes: list[str], lost: str) -> list[dict[str, str]] | None:
    """Read a table's rows by lower-case column names, with notes on all that is unusual.

    None if it cannot be read; the note then says that `lost` is missing.
    """
    try:
        table = read_table(path)
    except UnreadableSidecar as error:
        notes.append(f"{error}: no {lost} from it")
        return None
    notes += table.notes
    return [{column.lower(): cell for column, cell in row.items()} for row in table.rows]


def _is_of_words(text: str) -> bool:
    """Return whether all lines have the same number of words, two or more."""
    counts = {len(words) for line in text.splitlines() if (words := line.split())}
    return len(counts) == 1 and counts.pop() > 1


def _cells(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[list[str]]:
    """Return the stripped cells of the rows that are not empty."""
    lines = io.StringIO(text, newline="")
    table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    rows = ([cell.strip() for cell in row] for row in table)
    return [row for row in rows if any(row)]


def number(text: object) -> float:
    """Read a number with a decimal point or comma; NaN for any other text."""
    try:
        return float(str(text).replace(",", "."))
    except ValueError:
        return math.nan


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, in any encoding of `read_text`.

    Raises
    ------
    UnreadableSidecar, OSError
        As `read_text`; also, the text is no JSON object.
    """
    try:
        content = json.loads(read_text(path)[0])
    except json.JSONDecodeError as error:
        raise UnreadableSidecar(f"{path.name}: not JSON ({error})") from error
    except RecursionError as error:
        raise UnreadableSidecar(f"{path.name}: not JSON (nested too deeply)") from error
    if not isinstance(content, dict):
        raise UnreadableSidecar(f"{path.name}: not a JSON object")
    return content
