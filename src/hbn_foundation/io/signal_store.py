"""The signal store as a versioned Kedro dataset."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import TablePreview

from hbn_foundation.signals.store import SignalStore


class SignalStoreDataset(AbstractVersionedDataset[SignalStore, SignalStore]):
    """The index of a run's recordings; the signals themselves lie in the store's own folder.

    The cleaned signals are shared by all runs, one file per recording and set of cleaning
    parameters. What a run selected from them is its index: that is what is versioned.

    Parameters
    ----------
    filepath
        Where the index (a Parquet file) lies.
    version
        As Kedro gives it for `versioned: true`.
    metadata
        Anything for plugins, such as the layer in `kedro viz`.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self.metadata = metadata

    def load(self) -> SignalStore:
        """Open the store with this version's index."""
        return SignalStore.from_index(Path(get_filepath_str(self._get_load_path(), "file")))

    def save(self, data: SignalStore) -> None:
        """Write the index of `data`; its signals are on disk already."""
        path = Path(get_filepath_str(self._get_save_path(), "file"))
        path.parent.mkdir(parents=True, exist_ok=True)
        data.write_index(path)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first recordings in `kedro viz`."""
        shown = self.load().table.head(nrows).astype(object)
        return TablePreview(shown.where(shown.notna(), None).to_dict(orient="split"))

    def _exists(self) -> bool:
        return Path(get_filepath_str(self._get_load_path(), "file")).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
