"""The signal store as a versioned Kedro dataset."""

from kedro_datasets._typing import TablePreview

from hbn_foundation.io.local import LocalDataset, table_preview
from hbn_foundation.signals.store import SignalStore


class SignalStoreDataset(LocalDataset[SignalStore]):
    """The index of a run's recordings, a Parquet file; the signals lie in the store's own folder.

    The cleaned signals are shared by all runs, one file per recording and set of cleaning
    parameters. What a run selected from them is its index: that is what is versioned.
    """

    def load(self) -> SignalStore:
        """Open the store with this version's index."""
        return SignalStore(self.load_path)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first recordings in `kedro viz`."""
        return table_preview(self.load().table, nrows)
