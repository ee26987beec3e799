"""Types that the nodes are annotated with, imported when a run resolves the annotations.

Listing the pipelines needs neither pandas nor the signal store, and is twice as fast without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.store import SignalStore

__all__ = ["DataFrame", "EEGDataset", "SignalStore"]

_HOMES = {
    "DataFrame": "pandas",
    "EEGDataset": "hbn_foundation.signals.dataset",
    "SignalStore": "hbn_foundation.signals.store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)
