"""One canonical form of what a job depends on, its hash, and fingerprints of data by content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

LOCATION = ("row", "subject")
"""Columns of windows that say where something is and not what: other recordings move the rows."""


def canonical(value: Any, where: str = "") -> Any:
    """Bring plain values into the one form that is hashed.

    Mappings are sorted by key, tuples become lists, and a number that is whole is written without
    a point, so that 1 and 1.0 are one number. The order of a list stays: where it has no meaning,
    as for subjects, the caller sorts it.

    Parameters
    ----------
    value
        Of mappings, sequences, texts, numbers, booleans and None.
    where
        Dotted name of the value, for the message.

    Raises
    ------
    UserError
        A number that is not finite, or a value that JSON does not have.
    """
    if isinstance(value, dict):
        names = sorted(map(str, value))
        return {name: canonical(value[name], f"{where}.{name}".strip(".")) for name in names}
    if isinstance(value, list | tuple):
        return [canonical(part, f"{where}[{number}]") for number, part in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{where or 'job'}={value}: expected a finite number")
        return int(value) if value.is_integer() else value
    raise UserError(f"{where or 'job'}={value!r}: a {type(value).__name__} has no hash")


def canonical_text(value: Any) -> str:
    """Write the canonical form as JSON, without spaces."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_hash(value: Any) -> str:
    """Hash the canonical form: 16 hexadecimal digits."""
    return hashlib.blake2b(canonical_text(value).encode(), digest_size=8).hexdigest()


def data_fingerprint(dataset: EEGDataset, subjects: Iterable[str]) -> str:
    """Hash signals and windows of some subjects: 32 hexadecimal digits.

    Covers the names, contents and cleaning of their recordings, how they are scaled, the layout
    of channels, and every column of their windows, labels of trials included; neither a path nor
    what else lies in the store.
    """
    store, windows = dataset.store, dataset.windows
    wanted = {str(subject) for subject in subjects}
    mine = windows[windows["subject"].astype(str).isin(wanted)]
    recordings = store.recordings
    used = recordings[recordings["subject"].astype(str).isin(wanted)]
    columns = ["recording", "content_hash", "cleaning_hash"]
    lines = sorted(used[columns].astype(str).agg("\t".join, axis=1))
    kept = sorted(name for name in mine.columns if name not in LOCATION)
    table = mine[kept].astype(str).sort_values(["recording", "start"], kind="stable")
    values = pd.util.hash_pandas_object(table, index=False).to_numpy()
    about = json.dumps([lines, store.scale, store.channel_names, float(store.sfreq), kept])
    return hashlib.blake2b(about.encode() + values.tobytes(), digest_size=16).hexdigest()
