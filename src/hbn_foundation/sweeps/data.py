"""The data of a sweep on disk, for jobs in other processes and on other machines."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.sweeps.hashing import canonical_hash
from hbn_foundation.sweeps.planner import Data

WINDOWS, PARTICIPANTS, INDEX = "windows.parquet", "participants.parquet", "signal_index.parquet"
LABEL_WINDOWS = "label_windows.parquet"


@dataclass(frozen=True)
class DataPlace:
    """Where jobs find the data, and how it was made.

    Attributes
    ----------
    folder
        Of the tables.
    window, cleaning
        How windows were cut and signals cleaned.
    """

    folder: Path
    window: WindowParams
    cleaning: CleaningParams

    def load(self) -> Data:
        """Open the signals and read the tables.

        Raises
        ------
        UserError
            When they are not here.
        """
        if not (self.folder / INDEX).is_file():
            raise UserError(
                f"{self.folder}: the tables of the sweep are not on {socket.gethostname()}; "
                "expected there and the signals at the same paths as on the machine that plans"
            )
        labelled = self.folder / LABEL_WINDOWS
        return Data(
            SignalStore(self.folder / INDEX),
            pd.read_parquet(self.folder / WINDOWS),
            pd.read_parquet(self.folder / PARTICIPANTS),
            pd.read_parquet(labelled) if labelled.is_file() else None,
        )


def put_data(data: Data, work: Path, window: WindowParams, cleaning: CleaningParams) -> DataPlace:
    """Write the tables of a sweep where jobs find them; tables that are there already stay."""
    store = data.store
    tables = {WINDOWS: data.windows, PARTICIPANTS: data.participants}
    if data.label_windows is not None:
        tables[LABEL_WINDOWS] = data.label_windows
    digests = [
        int(pd.util.hash_pandas_object(table.astype(str), index=False).sum() % 2**53)
        for table in tables.values()
    ]
    columns = [list(map(str, table.columns)) for table in tables.values()]
    name = canonical_hash([store.fingerprint, str(store.path.absolute()), digests, columns])
    place = DataPlace((work / f"data-{name}").absolute(), window, cleaning)
    for file, table in tables.items():
        if not (place.folder / file).is_file():
            with renamed_when_done(place.folder / file) as temporary:
                table.to_parquet(temporary, index=False)
    store.write_index(place.folder / INDEX)
    about = {"window": window.model_dump(mode="json"), "cleaning": cleaning.model_dump(mode="json")}
    (place.folder / "about.json").write_text(json.dumps(about, indent=1))
    return place
