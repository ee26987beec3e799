"""The recordings that a signal store has cleaned so far, with their descriptions.

``cleaned.parquet``   one row per recording, content and cleaning
``journal/*.jsonl``   recordings cleaned since that table was written, one line each

Each build appends to its own journal and merges it into the table at its end. The next build reads
and merges the journal of a build that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, renamed_when_done
from hbn_foundation.signals.clean_task import FORMAT, signal_file
from hbn_foundation.signals.content import FileSignature

TABLE = "cleaned.parquet"
JOURNALS = "journal"

Row = dict[str, Any]


class Journal:
    """Descriptions of the recordings that a store has cleaned.

    A table that cannot be read is a UserError.
    """

    def __init__(self, store: str | Path) -> None:
        self.store = Path(store)
        self._folder = self.store / JOURNALS
        self._file = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._lock = _lock(self._file)
        self._merging = FileLock(self._folder / "merge.lock")
        self._rows: dict[tuple[str, str], dict[str, Row]] = {}
        with self._merging:
            self._read(self._folder.glob("*.jsonl"))

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
        """Append a description to the journal of this build; a full disk is a UserError."""
        line = json.dumps(row, default=lambda array: array.tolist()) + "\n"
        if not self._lock.is_locked:
            self._lock.acquire()
        with full_disk_named(self._file, len(line)), self._file.open("a", encoding="utf-8") as file:
            file.write(line)
        self._put([row])

    def merge(self) -> None:
        """Merge the journals into the table, except those of builds that are still running."""
        with self._merging:
            ended = list(self._ended())
            if not ended:
                return
            self._read(ended)  # again, as another build may have written the table
            rows = [row for by_content in self._rows.values() for row in by_content.values()]
            with renamed_when_done(self.store / TABLE) as temporary:
                pd.DataFrame(rows).to_parquet(temporary, index=False, compression="zstd")
            self._lock.release(force=True)
            for file in ended:
                file.unlink()
                file.with_suffix(".lock").unlink(missing_ok=True)

    def _ended(self) -> Iterator[Path]:
        """Yield the journals whose lock no other build holds."""
        for file in self._folder.glob("*.jsonl"):
            lock = self._lock if file == self._file else _lock(file)
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                yield file

    def _read(self, journals: Iterable[Path]) -> None:
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
        for file in journals:
            self._put(filter(None, map(_parsed, file.read_bytes().splitlines())))

    def _put(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row["format"] == FORMAT:
                of_cleaning = self._rows.setdefault((row["recording"], row["cleaning_hash"]), {})
                of_cleaning[row["content_hash"]] = row


def _lock(journal: Path) -> FileLock:
    """Lock that a build holds while it appends to a journal."""
    return FileLock(journal.with_suffix(".lock"))


def _parsed(text: bytes) -> Row | None:
    """Parse a JSON object; None if it is damaged, as the last line of a killed build may be."""
    try:
        return json.loads(text)
    except ValueError:
        return None
