"""Where subjects were placed by earlier runs, as a Kedro dataset without versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbn_foundation.io.local import LocalDataset

if TYPE_CHECKING:
    import pandas as pd


class PlacedSubjectsDataset(LocalDataset["pd.DataFrame"]):
    """A CSV table of subjects and their splits that is added to and never replaced.

    Two entries of the catalog name the same file, for a node may not read what it writes. Loading
    gives an empty table where the file does not exist yet.
    """

    def load(self) -> pd.DataFrame:
        """Read in which split each subject was placed; a file without sense is a UserError."""
        import pandas as pd

        from hbn_foundation.labels.splits import PLACED_COLUMNS, check_places

        if not self.load_path.is_file():
            return pd.DataFrame(columns=list(PLACED_COLUMNS), dtype=str)
        table = pd.read_csv(self.load_path, dtype=str, keep_default_na=False)
        check_places(table, self.load_path)
        return table

    def save(self, data: pd.DataFrame) -> None:
        """Add subjects; the file is replaced whole or not at all.

        A subject that a concurrent run has placed otherwise is a UserError.
        """
        from filelock import FileLock

        from hbn_foundation.files import renamed_when_done
        from hbn_foundation.labels.splits import with_placed

        if data.empty:
            return
        path = self.load_path
        path.parent.mkdir(parents=True, exist_ok=True)  # for the lock
        with FileLock(path.with_name(f".{path.name}.lock")):
            table = with_placed(self.load(), data)
            with renamed_when_done(path) as temporary:
                table.to_csv(temporary, index=False)
