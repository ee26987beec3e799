"""Signals, windows, splits and participants as one versioned Kedro dataset."""

from __future__ import annotations

from kedro_datasets._typing import TablePreview

from hbn_foundation.io.local import LocalDataset, table_preview
from hbn_foundation.signals.dataset import EEGDataset


class EEGDatasetDataset(LocalDataset[EEGDataset]):
    """A folder with the tables of an `EEGDataset`; the signals lie in the store's own folder."""

    def load(self) -> EEGDataset:
        """Read this version's tables."""
        return EEGDataset.load(self.load_path)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Show the first windows in `kedro viz`."""
        return table_preview(self.load().windows, nrows)
