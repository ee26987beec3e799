"""The download of eegmat becomes a BIDS data set that ingestion reads."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from edfio import Edf, EdfSignal

from hbn_foundation.cli import cli
from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.recordings.eegmat import convert
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import SelectionParams

CHANNELS = ["EEG Fp1", "EEG Fp2", "EEG F3", "EEG F4", "EEG O1", "EEG A2-A1", "ECG ECG"]


@pytest.fixture
def download(tmp_path):
    """Two subjects of invented signals, as PhysioNet's folder has them."""
    folder = tmp_path / "physionet.org" / "files"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for subject in ("00", "07"):
        for number in (1, 2):
            signals = [
                EdfSignal(rng.normal(0, 20, 500 * 4), 500, label=name, physical_dimension="uV",
                          physical_range=(-200, 200))
                for name in CHANNELS
            ]  # fmt: skip
            Edf(signals).write(folder / f"Subject{subject}_{number}.edf")
    (folder / "subject-info.csv").write_text(
        "Subject,Age,Gender,Recording year,Number of subtractions,Count quality\n"
        "Subject00,21,F,2011,9.7,0\nSubject01,18,F,2011,29.35,1\nSubject07,22,M,2012,1,1\n"
    )
    return tmp_path / "physionet.org"


def test_download_becomes_bids(download, tmp_path):
    root = convert(download, tmp_path / "bids")
    recordings = find_recordings(root, SelectionParams())
    assert recordings[["subject", "task"]].to_numpy().tolist() == [
        [subject, task] for subject in ("00", "07") for task in ("arithmetic", "rest")
    ]
    people = read_participants(str(root)).set_index("subject")
    assert people["age"].to_dict() == {"00": 21, "07": 22}
    assert people["sex"].to_dict() == {"00": "F", "07": "M"}
    assert people["n_subtractions"].to_dict() == {"00": 9.7, "07": 1}
    assert people["count_quality"].to_dict() == {"00": 0, "07": 1}
    source = next(download.rglob("Subject07_2.edf"))
    (written,) = root.rglob("sub-07_task-arithmetic_eeg.edf")
    assert written.read_bytes() == source.read_bytes()
    kinds = pd.read_csv(next(root.rglob("sub-07_task-rest_channels.tsv")), sep="\t")
    assert kinds["type"].tolist() == ["EEG"] * 5 + ["MISC", "ECG"]


def test_command_names_what_is_next_and_what_is_missing(download, tmp_path):
    result = CliRunner().invoke(cli, ["eegmat-to-bids", str(download), str(tmp_path / "bids")])
    assert result.exit_code == 0, result.output
    assert f"EEGMAT_ROOT={tmp_path / 'bids'} kedro run --env eegmat" in result.output
    next(download.rglob("subject-info.csv")).unlink()
    with pytest.raises(UserError, match=r"no subject-info\.csv there; download https://physionet"):
        convert(download, tmp_path / "bids")
    with pytest.raises(UserError, match=r"no Subject00_1\.edf there"):
        convert(tmp_path / "nowhere", tmp_path / "bids")


def test_damaged_file_is_named(download, tmp_path):
    path = next(download.rglob("Subject00_2.edf"))
    path.write_bytes(b"0")
    with pytest.raises(UserError, match=r"Subject00_2\.edf: cannot be read"):
        convert(download, tmp_path / "bids")
