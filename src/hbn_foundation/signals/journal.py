"""The recordings that a signal store has cleaned so far, with their descriptions.

``cleaned.parquet``  one row per recording, content and cleaning
``journal.jsonl``    recordings cleaned since that table was written, one line each

Builds append to the journal; each merges it into the table at its end. What a killed build has
cleaned is in the journal for the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, renamed_when_done
from hbn_foundation.signals.clean_task import FORMAT, signal_file
from hbn_foundation.signals.content import FileSignature

TABLE, JOURNAL = "cleaned.parquet", "journal.jsonl"

Row = dict[str, Any]


class Journal:
    """Descriptions of the recordings that a store has cleaned.

    A table that cannot be read is a UserError.
    """

    def __init__(self, store: str | Path) -> None:
        self.store = Path(store)
        self._file = self.store / JOURNAL
        self._lock = FileLock(self.store / "journal.lock")
        self._rows: dict[tuple[str, str], dict[str, Row]] = {}
        with self._lock:
            self._read()

    def known(self, recording: str, cleaning: str) -> dict[str, Row]:
        """Descriptions of a recording by content hash, except those without their signal file."""
        return {
            content: row
            for content, row in self._rows.get((recording, cleaning), {}).items()
            if row["status"] != "ok"
            or signal_file(self.store, recording, content, cleaning).is_file()
        }

    def find(self, recording: str, cleaning: str, files: FileSignature) -> Row | None:
        """Find the description of a recording whose files have not changed since it was made."""
        signature = json.dumps(files)
        rows = self.known(recording, cleaning).values()
        return next((row for row in rows if row["files"] == signature), None)

    def add(self, row: Row) -> None:
        """Append a description to the journal; a full disk is a UserError."""
        # the line before may have been cut by a crash
        line = "\n" + json.dumps(row, default=lambda array: array.tolist())
        with (
            self._lock,
            full_disk_named(self._file, len(line)),
            self._file.open("a", encoding="utf-8") as file,
        ):
            file.write(line)
        self._put([row])

    def merge(self) -> None:
        """Move all lines of the journal, those of other builds too, into the table."""
        with self._lock:
            if not self._file.is_file():
                return
            self._read()  # again, as another build may have written either
            rows = [row for by_content in self._rows.values() for row in by_content.values()]
            with renamed_when_done(self.store / TABLE) as temporary:
                pd.DataFrame(rows).to_parquet(temporary, index=False, compression="zstd")
            self._file.unlink()

    def _read(self) -> None:
        table = self.store / TABLE
        if table.is_file():
            try:
                frame = pd.read_parquet(table)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{table}: cannot be read ({type(error).__name__}); restore it, or remove it "
                    "to clean all recordings again"
                ) from error
            self._put(frame.astype(object).where(frame.notna(), None).to_dict("records"))
        if self._file.is_file():
            self._put(filter(None, map(_parsed, self._file.read_bytes().splitlines())))

    def _put(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row["format"] == FORMAT:
                of_cleaning = self._rows.setdefault((row["recording"], row["cleaning_hash"]), {})
                of_cleaning[row["content_hash"]] = row


def _parsed(text: bytes) -> Row | None:
    """Parse a JSON object; None if it is damaged, as the last line of a killed build may be."""
    try:
        return json.loads(text)
    except ValueError:
        return None
