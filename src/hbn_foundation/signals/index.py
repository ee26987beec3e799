"""The index of a signal store: one row per recording, and the layout, in one Parquet file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.files import renamed_when_done
from hbn_foundation.progress import say
from hbn_foundation.signals.clean_task import FORMAT

INDEX = "index.parquet"
METADATA_KEY = b"hbn_foundation"
HIDDEN_COLUMNS = ("channels", "scales", "bad", "stretches", "bad_segments")
"""Columns used by the store only: channel names joined by tabs, volts per stored unit of each, and
start, stop (and onset in s) of each stretch and bad segment, concatenated."""

TEXT_COLUMNS = ("recording", "subject", "session", "task", "run", "path", "status", "reason")
TABLE_COLUMNS = (
    *TEXT_COLUMNS,
    *("n_channels", "n_samples", "sfreq", "duration", "n_bad", "bad_channels", "reference"),
    *("content_hash", "cleaning_hash"),
)
"""Columns of every table; the quality measures follow."""

MIN_AGREEMENT = 0.95
"""Two caps are different if the median cosine between their directions of the same names is below
this (18°). A channel whose mean direction is shorter than this is logged."""

MIN_SHARED_NAMES = 4


class IndexBuilder:
    """Collect descriptions, in any order, into an index; each takes about 2 kB of memory.

    The layout is the union of all channels, in the order of the recording that has most. The
    position of a channel is its mean direction over the recordings that have it. A name that
    another cap has at another position (two nets of `ch1` to `ch64`) is a channel of its own:
    ``ch1@cap2``.
    """

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}
        self._layouts: dict[tuple[str, str], list[int]] = {}

    def add(self, place: int, description: Mapping[str, Any]) -> None:
        """Add a recording's description (see `clean_task.describe`) at a position in the index."""
        row = {name: description[name] for name in (*TABLE_COLUMNS, *HIDDEN_COLUMNS)}
        row |= {"scales": np.asarray(row["scales"], np.float32)}
        row |= {name: np.asarray(row[name], float) for name in ("stretches", "bad_segments")}
        self._rows[place] = {**row, **json.loads(description["quality"])}
        if description["status"] == "ok":
            key = (description["channels"], description["positions"])
            self._layouts.setdefault(key, []).append(place)

    def content(self, **metadata: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return the rows in order, and the metadata that all recordings share.

        Different sampling rates are a UserError.
        """
        used = [place for places in self._layouts.values() for place in places]
        rates = sorted({float(self._rows[place]["sfreq"]) for place in used})
        if len(rates) > 1:
            found = ", ".join(f"{rate:g}" for rate in rates)
            raise UserError(f"recordings at {found} Hz in one signal store, expected one rate")
        common = {"format": FORMAT, "sfreq": rates[0] if rates else None, "store": "."}
        layout = self._lay_out()
        return self.frame(), {**common, "layout": layout, **metadata}

    def frame(self) -> pd.DataFrame:
        """Return the rows added so far, in order."""
        frame = pd.DataFrame([self._rows[place] for place in sorted(self._rows)])
        for name in (*TABLE_COLUMNS, *HIDDEN_COLUMNS):
            if name not in frame:
                frame[name] = pd.Series(dtype=object)
        types = dict.fromkeys(TEXT_COLUMNS, "string") | {"sfreq": float, "duration": float}
        measures = [name for name in frame if name not in (*TABLE_COLUMNS, *HIDDEN_COLUMNS)]
        return frame.astype(types)[[*TABLE_COLUMNS, *measures, *HIDDEN_COLUMNS]]

    def _lay_out(self) -> dict[str, list[float]]:
        """Build the layout, rename channels in the rows accordingly, and return its directions."""
        caps: list[dict[str, np.ndarray]] = []
        plain: dict[str, np.ndarray] = {}
        stored: dict[tuple[int, str], str] = {}
        sums: dict[str, np.ndarray] = {}
        counts: Counter[str] = Counter()
        fullest: list[str] = []
        n_renamed = 0
        for (joined, positions), places in sorted(self._layouts.items(), key=lambda x: min(x[1])):
            names, unit = joined.split("\t"), np.array(json.loads(positions), float).reshape(-1, 3)
            cap = next((k for k, cap in enumerate(caps) if _agree(cap, names, unit)), len(caps))
            caps += [{}] * (cap == len(caps))
            for name, direction in zip(names, unit, strict=True):
                if name not in caps[cap]:
                    same = plain.setdefault(name, direction) @ direction >= MIN_AGREEMENT
                    stored[cap, name] = name if same or not cap else f"{name}@cap{cap + 1}"
                    caps[cap][name] = direction
                own = stored[cap, name]
                sums[own] = sums.get(own, 0.0) + len(places) * direction
                counts[own] += len(places)
            renamed = [stored[cap, name] for name in names]
            fullest = max(fullest, renamed, key=len)
            if renamed != names:
                n_renamed += len(places)
                self._rename(places, dict(zip(names, renamed, strict=True)))
        order = list(dict.fromkeys([*fullest, *sums]))
        lengths = {name: float(np.linalg.norm(sums[name])) for name in order}
        if n_renamed:
            others = first_few(name for name in order if "@cap" in name)
            say(f"{n_renamed} recordings have channels of the same names at other places, which "
                f"are kept apart: {others}")  # fmt: skip
        apart = [name for name in order if lengths[name] < MIN_AGREEMENT * counts[name]]
        if apart:
            say(f"{len(apart)} channels lie at different places in different recordings "
                f"({first_few(apart)}): the mean is taken")  # fmt: skip
        return {name: (sums[name] / max(lengths[name], 1e-12)).tolist() for name in order}

    def _rename(self, places: list[int], names: dict[str, str]) -> None:
        for row in (self._rows[place] for place in places):
            for column in ("channels", "bad"):
                own = (names.get(name, name) for name in row[column].split("\t") if name)
                row[column] = "\t".join(own)


def _agree(cap: Mapping[str, np.ndarray], names: list[str], unit: np.ndarray) -> bool:
    """Tell whether a cap and a recording agree on the directions of the names that they share.

    They always agree if they share fewer than `MIN_SHARED_NAMES`.
    """
    shared = [i for i, name in enumerate(names) if name in cap]
    cosines = [cap[names[i]] @ unit[i] for i in shared]
    return len(shared) < MIN_SHARED_NAMES or bool(np.median(cosines) >= MIN_AGREEMENT)


def write_index_file(path: Path, frame: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Write an index: one row per recording, and the metadata in the file's schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(metadata).encode()}
    )
    with renamed_when_done(path, table.nbytes) as temporary:
        pq.write_table(table, temporary)


def read_index_file(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read an index and its metadata, which is empty if the file is not an index of a store."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    content = (table.schema.metadata or {}).get(METADATA_KEY)
    return table.to_pandas(), json.loads(content) if content else {}
