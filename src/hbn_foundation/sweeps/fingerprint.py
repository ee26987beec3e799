"""Fingerprints of data by content: neither path nor what else lies in the store counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

FIXED = ("row", "subject")
"""Columns that say where something is and not what: other recordings move the rows."""


def data_fingerprint(store: SignalStore, windows: pd.DataFrame, subjects: Iterable[str]) -> str:
    """Hash signals and windows of some subjects.

    Covers the names, contents and cleaning of their recordings, how they are scaled, the layout
    of channels, and every column of their windows, labels of trials included.

    Parameters
    ----------
    store
        The signals.
    windows
        Windows of all subjects.
    subjects
        Whose.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    wanted = {str(subject) for subject in subjects}
    mine = windows[windows["subject"].astype(str).isin(wanted)]
    recordings = store.recordings
    used = recordings[recordings["subject"].astype(str).isin(wanted)]
    columns = ["recording", "content_hash", "cleaning_hash"]
    lines = sorted(used[columns].astype(str).agg("\t".join, axis=1))
    kept = sorted(name for name in mine.columns if name not in FIXED)
    table = mine[kept].astype(str).sort_values(["recording", "start"], kind="stable")
    values = pd.util.hash_pandas_object(table, index=False).to_numpy()
    about = json.dumps([lines, store.scale, store.channel_names, float(store.sfreq), kept])
    return hashlib.blake2b(about.encode() + values.tobytes(), digest_size=16).hexdigest()
