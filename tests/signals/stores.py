"""Small stores of random signals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.signals.store import SignalStore, store_from_arrays

NAMES = ("A", "B", "C")


def signal(n_samples: int, n_channels: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((n_samples, n_channels)).astype(np.float16)


def stored(path: Path, recordings: Iterable[tuple[dict[str, Any], int]]) -> SignalStore:
    """Store of (row, n_samples), the rows with all that they lack."""
    usual = {"task": "rest", "run": "1"}
    rows = [
        ({"recording": f"sub-{i}", "subject": str(i), **usual, **row},
         signal(n, len(row.get("names", NAMES)), i))
        for i, (row, n) in enumerate(recordings)
    ]  # fmt: skip
    return store_from_arrays(path, rows, NAMES, np.eye(3))
