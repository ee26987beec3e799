"""The signal store as a versioned Kedro dataset."""

from kedro_datasets._typing import TablePreview

from hbn_foundation.io.local import LocalDataset
from hbn_foundation.signals.store import SignalStore


class SignalStoreDataset(LocalDataset[SignalStore]):
    """The index of a run's recordings, a Parquet file; the signals lie in the store's own folder.

    The cleaned signals are shared by all runs, one file per recording and set of cleaning
    parameters. What a run selected from them is its index: that is what is versioned.
    """

    def load(self) -> SignalStore:
        """Open the store with this version's index."""
        return SignalStore(self.load_path)

    def save(self, data: SignalStore) -> None:
        """Write the index of `data`; its signals are on disk already."""
        self.save_path.parent.mkdir(parents=True, exist_ok=True)
        data.write_index(self.save_path)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first recordings in `kedro viz`."""
        shown = self.load().table.head(nrows).astype(object)
        return TablePreview(shown.where(shown.notna(), None).to_dict(orient="split"))
