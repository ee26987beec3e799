"""What the project's datasets share: a place on this machine's disk, in versions."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kedro.io import AbstractVersionedDataset
from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import TablePreview

if TYPE_CHECKING:
    import pandas as pd

Content = TypeVar("Content")


class LocalDataset(AbstractVersionedDataset[Content, Content], Generic[Content]):
    """A file or folder that its content writes by itself.

    With versions it is `filepath/<version>/<name>`; Kedro gives the version for `versioned: true`.
    `metadata` are kept for plug-ins such as Kedro-Viz.
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

    @property
    def load_path(self) -> Path:
        """Of the version that is to be loaded."""
        return Path(get_filepath_str(self._get_load_path(), "file"))

    def save(self, data: Content) -> None:
        """Write the version of this run; it appears whole or not at all."""
        data.save(Path(get_filepath_str(self._get_save_path(), "file")))  # type: ignore[attr-defined]

    def _exists(self) -> bool:
        return self.load_path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def table_preview(table: pd.DataFrame, n_rows: int) -> TablePreview:
    """Show the first rows of a table in `kedro viz`."""
    shown = table.head(n_rows).astype(object)
    return TablePreview(shown.where(shown.notna(), None).to_dict(orient="split"))
