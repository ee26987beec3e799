"""Where subjects were placed by earlier runs, as a Kedro dataset without versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

if TYPE_CHECKING:
    import pandas as pd


class PlacedSubjectsDataset(AbstractDataset["pd.DataFrame", "pd.DataFrame"]):
    """A CSV table of subjects and their splits that is added to and never replaced.

    Two entries of the catalog name the same file, for a node may not read what it writes.

    Parameters
    ----------
    filepath
        The file; loading gives an empty table where it does not exist yet.
    metadata
        Kept for plug-ins such as Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read in which split each subject was placed.

        Raises
        ------
        UserError
            The file was changed by hand, and no longer makes sense.
        """
        import pandas as pd

        from hbn_foundation.labels.splits import PLACED_COLUMNS, check_places

        if not self._path.is_file():
            return pd.DataFrame(columns=list(PLACED_COLUMNS), dtype=str)
        table = pd.read_csv(self._path, dtype=str, keep_default_na=False)
        check_places(table, self._path)
        return table

    def save(self, data: pd.DataFrame) -> None:
        """Add subjects; the file is replaced whole or not at all.

        Raises
        ------
        UserError
            A run beside this one has placed one of them otherwise.
        """
        from filelock import FileLock

        from hbn_foundation.files import renamed_when_done
        from hbn_foundation.labels.splits import with_placed

        if data.empty:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_name(f".{self._path.name}.lock")):
            table = with_placed(self.load(), data)
            with renamed_when_done(self._path) as temporary:
                table.to_csv(temporary, index=False)

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
