"""PhysioNet's eegmat, rest and mental arithmetic, as a BIDS data set."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.progress import say, track

SOURCE = "https://physionet.org/content/eegmat/1.0.0/"
DOWNLOAD = "wget -r -N -c -np https://physionet.org/files/eegmat/1.0.0/"
INFO = "subject-info.csv"
TASKS = {"1": "rest", "2": "arithmetic"}
NAME = re.compile(r"Subject(\d+)_([12])\.edf")
NOT_EEG = {"EEG A2-A1": "misc", "ECG ECG": "ecg"}
COLUMNS = {
    "Subject": "participant_id",
    "Age": "age",
    "Gender": "sex",
    "Number of subtractions": "n_subtractions",
    "Count quality": "count_quality",
}
"""Columns of participants.tsv, by those of subject-info.csv."""


def convert(folder: str | Path, root: str | Path) -> Path:
    """Write the downloaded files as a BIDS data set; the signals are copied as they are.

    Parameters
    ----------
    folder
        The download, with `Subject00_1.edf` (rest), `Subject00_2.edf` (mental arithmetic), … and
        `subject-info.csv`, in it or in folders below.
    root
        BIDS root to write: `participants.tsv` with `age` (years), `sex`, `n_subtractions` (per
        minute) and `count_quality` (1 good, 0 bad), and two tasks of each subject. Files of the
        same name that are there are replaced.

    Raises
    ------
    UserError
        When the files are not there, saying how to get them, or one cannot be read.
    """
    import pandas as pd

    root, files = Path(root), sorted(Path(folder).rglob("*.edf"))
    found = {match.groups(): path for path in files if (match := NAME.fullmatch(path.name))}
    info = next(iter(sorted(Path(folder).rglob(INFO))), None)
    if not found or info is None:
        missing = INFO if found else "Subject00_1.edf"
        raise UserError(f"{folder}: no {missing} there; download {SOURCE}, by {DOWNLOAD}")
    for (subject, number), path in track(found.items(), "Converting"):
        _copy(path, root, subject, TASKS[number])
    table = pd.read_csv(info, dtype=str, skipinitialspace=True).rename(columns=str.strip)
    table = table[list(COLUMNS)].rename(columns=COLUMNS)
    subjects = table["participant_id"].str.strip().str.removeprefix("Subject")
    table["participant_id"] = "sub-" + subjects
    table = table[subjects.isin([subject for subject, _ in found])]
    table.to_csv(root / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    say(f"{len(found)} recordings of {len({subject for subject, _ in found})} subjects in {root}")
    return root


def _copy(path: Path, root: Path, subject: str, task: str) -> None:
    import mne
    from mne_bids import BIDSPath, write_raw_bids

    place = BIDSPath(subject=subject, task=task, datatype="eeg", root=root)
    with warnings.catch_warnings(), mne.utils.use_log_level("ERROR"):
        warnings.simplefilter("ignore")  # of dates and of positions, which the files do not have
        try:
            raw = mne.io.read_raw_edf(path)
        except Exception as error:
            raise UserError(f"{path}: cannot be read ({one_line(error)})") from None
        raw.set_channel_types({name: NOT_EEG[name] for name in raw.ch_names if name in NOT_EEG})
        raw.info["line_freq"] = 50
        write_raw_bids(raw, place, overwrite=True, verbose=False)
