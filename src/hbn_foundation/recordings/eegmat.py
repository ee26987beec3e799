"""PhysioNet's eegmat, rest and mental arithmetic, as a BIDS data set."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say, track

SOURCE = "https://physionet.org/content/eegmat/1.0.0/"
DOWNLOAD = "wget -r -N -c -np https://physionet.org/files/eegmat/1.0.0/"
INFO = "subject-info.csv"
TASKS = {"1": "rest", "2": "arithmetic"}
NAME = re.compile(r"Subject(\d+)_([12])\.edf")
#: Columns of participants.tsv, by those of subject-info.csv.
COLUMNS = {
    "Age": "age",
    "Gender": "sex",
    "Number of subtractions": "n_subtractions",
    "Count quality": "count_quality",
}


def convert(folder: str | Path, root: str | Path) -> Path:
    """Write the downloaded files as a BIDS data set; the signals are copied as they are.

    Parameters
    ----------
    folder
        The download, with `Subject00_1.edf` (rest), `Subject00_2.edf` (mental arithmetic), … and
        `subject-info.csv`, in it or in folders below.
    root
        BIDS root to write; files of the same name that are there are replaced.

    Returns
    -------
    Path
        The root: `participants.tsv` with `age` (years), `sex`, `n_subtractions` (per minute) and
        `count_quality` (1 good, 0 bad), and `task-rest` and `task-arithmetic` of each subject.

    Raises
    ------
    UserError
        When the files are not there, saying how to get them, or one cannot be read.
    """
    found = {match.groups(): path for path in sorted(Path(folder).rglob("*.edf"))
             if (match := NAME.fullmatch(path.name))}  # fmt: skip
    info = next(iter(sorted(Path(folder).rglob(INFO))), None)
    if not found or info is None:
        missing = INFO if found else "Subject00_1.edf"
        raise UserError(f"{folder}: no {missing} there; download {SOURCE}, by {DOWNLOAD}")
    root = Path(root)
    for (subject, number), path in track(found.items(), "Converting"):
        _copy(path, root, subject, TASKS[number])
    for subject in sorted({subject for subject, _ in found}):
        absent = [task for number, task in TASKS.items() if (subject, number) not in found]
        if absent:
            say(f"sub-{subject}: no {absent[0]} recording in {folder}")
    _write_participants(info, root)
    say(f"{len(found)} recordings of {len({name for name, _ in found})} subjects in {root}")
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
            raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
        kinds = {"A2-A1": "misc", "ECG": "ecg"}
        raw.set_channel_types(
            {name: kinds[name.split()[-1]] for name in raw.ch_names if name.split()[-1] in kinds}
        )
        raw.info["line_freq"] = 50
        write_raw_bids(raw, place, overwrite=True, verbose=False)


def _write_participants(info: Path, root: Path) -> None:
    import pandas as pd

    table = pd.read_csv(info, dtype=str)
    table.columns = table.columns.str.strip()
    lacking = [name for name in ("Subject", *COLUMNS) if name not in table]
    if lacking:
        raise UserError(f"{info}: no column {lacking[0]}; it has {', '.join(table.columns)}")
    subject = table["Subject"].str.strip().str.removeprefix("Subject")
    rows = table[list(COLUMNS)].rename(columns=COLUMNS)
    rows.insert(0, "participant_id", "sub-" + subject)
    rows = rows[[(root / name).is_dir() for name in rows["participant_id"]]]
    rows.to_csv(root / "participants.tsv", sep="\t", index=False, na_rep="n/a")
