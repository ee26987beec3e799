"""Data sets as people have them: what ingestion makes of each is right, or said in a line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from case_runs import CASES, SUBJECTS, Ingested, write_case

from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.sphere import to_unit_sphere
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.windows import cut_trial_windows
from kedro_project import KedroProject

pytestmark = pytest.mark.slow

LEAST_R = 0.9999
MOST_DEGREES = 5.0


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> KedroProject:
    return KedroProject.copy_to(tmp_path_factory.mktemp("cases"))


@pytest.fixture
def ingest(project: KedroProject) -> Callable[..., Ingested]:
    """Run ingestion on a root, in a process as a user starts it; each test is the first to."""
    shutil.rmtree(project.root / "data", ignore_errors=True)

    def run(root: Path, timeout: float = 120, **params: object) -> Ingested:
        given = {"source.root": root, **params}
        text = ",".join(f"ingestion.{name}={value}" for name, value in given.items())
        done = project.kedro(
            "run", "--pipeline", "ingestion", "--params", text, timeout=timeout
        )  # fmt: skip
        return Ingested(project, done.returncode, done.stdout + done.stderr)

    return run


def reference(made: dict, folder: Path, names, signals, sfreq, channels: str = "") -> dict:
    """Clean undisturbed signals, in plain EDF: the right signal (T, C) by subject."""
    root = made["start"](folder / "reference", list(signals))
    for subject, x in signals.items():
        made["edf"](made["place"](root, subject), names, x, sfreq)
        if channels:
            path = made["place"](root, subject, ending="tsv", suffix="channels")
            path.write_text(channels, encoding="utf-8")
    store = build_store(find_recordings(root), folder / "reference_store", n_jobs=1)
    return {
        subject: pd.DataFrame(
            np.asarray(store.signal(row), float),
            columns=[store.channel_names[place] for place in store.channel_index(row)],
        )
        for row, subject in enumerate(store.recordings["subject"])
    }


def same_signal(found: pd.DataFrame, right: pd.DataFrame) -> bool:
    """Whether a signal has the right channels and length and is the right one in each."""
    assert list(found.columns) == list(right.columns)
    assert len(found) == len(right)
    return float(found.corrwith(right).min()) > LEAST_R


def control(made: dict, folder: Path) -> dict:
    """Signals of the control, which most cases disturb: 19 channels at 128 Hz, 30 s."""
    signals = {s: made["sig"](i, 19, 128, 30) for i, s in enumerate(SUBJECTS)}
    return reference(made, folder, made["N19"], signals, 128)


def all_as_control(found: Ingested, made: dict, folder: Path) -> None:
    right = control(made, folder)
    assert list(found.quality["status"]) == ["ok"] * 6
    for subject in SUBJECTS:
        assert same_signal(found.signal(subject), right[subject])


def in_head_coordinates(montage: str) -> dict[str, np.ndarray]:
    """Unit vectors of the electrodes of one of MNE's montages."""
    made = mne.channels.make_standard_montage(montage)
    info = mne.create_info(made.ch_names, 100.0, "eeg").set_montage(made, verbose="ERROR")
    points = to_unit_sphere(np.array([channel["loc"][:3] for channel in info["chs"]]))
    return dict(zip(made.ch_names, points, strict=True))


def marked(names) -> str:
    """A channels.tsv in which Fz is bad and Fp1 measures the eyes."""
    rows = ["name\ttype\tunits\tstatus"]
    for name in names:
        kind, status = "EOG" if name == "Fp1" else "EEG", "bad" if name == "Fz" else "good"
        rows.append(f"{name}\t{kind}\tuV\t{status}")
    return "\n".join(rows) + "\n"


def test_every_case_has_a_test():
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not here")
    tests = Path(__file__).read_text()
    assert [path.name for path in CASES.glob("[0-9]*") if f'"{path.name}"' not in tests] == []


def test_00_the_control_is_kept(ingest, tmp_path):
    made = write_case("00_control.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    all_as_control(found, made, tmp_path)
    assert set(found.quality["note"]) == {""}
    assert set(found.splits["split"]) == {"train", "validation", "test"}
    assert list(found.participants["age"]) == [9, 10, 11, 12, 13, 14]


def test_01_nothing_lies_across_a_pause(ingest, tmp_path):
    made = write_case("01_edfd_gaps.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    assert found.quality["note"].str.contains("60 s|gap|pause", regex=True).all()
    first, second = {}, {}
    for i, subject in enumerate(SUBJECTS):
        x = made["sig"](i, 19, 128, 30)
        first[subject], second[subject] = x[:, : 10 * 128], x[:, 10 * 128 :]
    before = reference(made, tmp_path / "before", made["N19"], first, 128)
    after = reference(made, tmp_path / "after", made["N19"], second, 128)
    for subject in SUBJECTS:
        signal = found.signal(subject)
        assert len(signal) == 3000
        assert signal[:1000].corrwith(before[subject]).min() > LEAST_R
        rest = signal[1000:].reset_index(drop=True)
        assert rest.corrwith(after[subject]).min() > LEAST_R
    starts = found.windows["start"]
    assert not ((starts > 800) & (starts < 1000)).any()
    assert (found.windows.groupby("subject").size() >= 14).all()
    usable = found.trials[found.trials["excluded"] == ""]
    assert usable.groupby("subject").size().eq(3).all()
    windows = cut_trial_windows(found.store, found.trials)
    starts = windows.groupby("subject")["start"].apply(list)
    # 0.5 s after the stimuli at 3, 76 and 81 s, the last two 60 s of pause earlier in the signal
    assert list(starts) == [[350, 1650, 2150]] * 6


def test_02_the_low_pass_of_another_channel_is_not_the_eegs(ingest, tmp_path):
    made = write_case("02_edf_prefilter.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 20, 200, 30)[:19] for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, made["N19"], signals, 200)
    for subject in SUBJECTS:
        assert same_signal(found.signal(subject), right[subject])
    assert (found.quality["h_freq"] > 45).all()


def test_03_a_sidecar_in_cp1252_is_read(ingest, tmp_path):
    made = write_case("03_channels_cp1252.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 19, 128, 30) for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, made["N19"], signals, 128, marked(made["N19"]))
    for subject in SUBJECTS:
        assert found.bad(subject) == {"Fz"}
        assert "Fp1" not in found.names(subject)
        assert same_signal(found.signal(subject), right[subject])


def test_05_positions_in_the_file_outrank_names(ingest, tmp_path):
    write_case("05_eeg001_fif.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    true = in_head_coordinates("biosemi32").values()
    names = found.names("01")
    assert len(names) == 32
    assert found.angles(dict(zip(names, true, strict=True))).max() < MOST_DEGREES


def test_06_numbers_without_leading_zeros_meet_their_folders(ingest, tmp_path):
    write_case("06_participants_padding.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.participants["age"].astype(float)) == [9, 10, 11, 12, 13, 14]
    assert found.participants["sex"].notna().all()


@pytest.mark.parametrize("script", ["08_electrodes_unit.py", "08b_electrodes_ctf.py"])
def test_08_electrodes_of_another_unit_or_axes(script, ingest, tmp_path):
    made = write_case(script, tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    true = dict(zip(made["names"], in_head_coordinates("biosemi16").values(), strict=True))
    assert found.angles(true).max() < MOST_DEGREES
    assert found.quality["note"].ne("").all()
    names = mne.channels.make_standard_montage("biosemi16").ch_names
    signals = {s: made["sig"](i, 16, 128, 30) for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, names, signals, 128)
    for subject in SUBJECTS:
        signal = found.signal(subject)
        there = right[subject].set_axis(signal.columns, axis=1)
        assert same_signal(signal, there)


def test_09_units_come_from_the_sidecar(ingest, tmp_path):
    made = write_case("09_edf_units.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    all_as_control(found, made, tmp_path)
    assert found.quality["amplitude_uv"].between(5, 50).all()


def test_10_annotations_that_cannot_be_decoded_stop_nothing(ingest, tmp_path):
    made = write_case("10_edf_latin1_notes.py", tmp_path / "root")
    all_as_control(ingest(tmp_path / "root"), made, tmp_path)


def test_14_a_faster_channel_changes_nothing(ingest, tmp_path):
    made = write_case("14_edf_mixed_rates.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 19, 128, 200) for i, s in enumerate(SUBJECTS[:3])}
    right = reference(made, tmp_path, made["N19"], signals, 128)
    for with_emg, alone in zip(SUBJECTS[:3], SUBJECTS[3:], strict=True):
        assert same_signal(found.signal(with_emg), right[with_emg])
        assert same_signal(found.signal(alone), right[with_emg])


def test_18_decimal_commas_are_read(ingest, tmp_path):
    made = write_case("18_decimal_commas.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.participants["age"].astype(float)) == [8.5, 9.5, 10.5, 11.5, 12.5, 13.5]
    assert list(found.quality["status"]) == ["ok"] * 6
    true = dict(zip(made["names"], in_head_coordinates("biosemi16").values(), strict=True))
    assert found.angles(true).max() < MOST_DEGREES


def test_22_names_written_otherwise_in_the_sidecar_match(ingest, tmp_path):
    made = write_case("22_channel_names_differ.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 19, 128, 30) for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, made["N19"], signals, 128, marked(made["N19"]))
    for subject in SUBJECTS:
        assert found.bad(subject) == {"Fz"}
        assert "Fp1" not in found.names(subject)
        assert same_signal(found.signal(subject), right[subject])


def test_23_bipolar_derivations_are_refused_as_such(ingest, tmp_path):
    write_case("23_bipolar_banana.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert found.returncode == 1
    (error,) = [line for line in found.text.splitlines() if line.startswith("Error: ")]
    assert "bipolar" in error
    assert "Traceback" not in found.text


def test_25_eye_electrodes_are_not_placed_on_the_scalp(ingest, tmp_path):
    made = write_case("25_psg_e1_e2.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 10, 200, 30)[:6] for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, made["names"][:6], signals, 200)
    for subject in SUBJECTS:
        assert found.names(subject) == ["F3", "F4", "C3", "C4", "O1", "O2"]
        assert same_signal(found.signal(subject), right[subject])


def test_26_signals_that_were_replaced_are_read_anew(ingest, tmp_path):
    made = write_case("26_stale_data_file.py", tmp_path / "root")
    all_as_control(ingest(tmp_path / "root"), made, tmp_path / "first")
    write_case("26_stale_data_file.py", tmp_path / "root", "change")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i + 50, 19, 128, 30, 80.0) for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path / "second", made["N19"], signals, 128)
    for subject in SUBJECTS:
        assert same_signal(found.signal(subject), right[subject])


def test_27_odd_participants_are_read_or_named(ingest, tmp_path):
    made = write_case("27_participants_odd.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    all_as_control(found, made, tmp_path)
    ages = pd.to_numeric(found.participants["age"], errors="coerce")
    assert list(ages[["02", "04", "05", "06"]]) == [28, 31, 40, 22]
    assert "18-38" in found.text
    sexes = found.participants["sex"].astype(str).str.lower().str[0]
    assert list(sexes) == ["f", "f", "f", "m", "m", "m"]


def test_28_participants_in_cp1252_are_read(ingest, tmp_path):
    made = write_case("28_participants_cp1252.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    all_as_control(found, made, tmp_path)
    assert list(found.participants["age"].astype(float)) == [9, 10, 11, 12, 13, 14]
    assert found.participants["sex"].notna().all()


def test_29_a_file_whose_reader_never_returns_is_rejected(ingest, tmp_path):
    if not (CASES / "29_damaged_fif").is_dir():
        pytest.skip(f"{CASES / '29_damaged_fif'} is not here")
    found = ingest(CASES / "29_damaged_fif")
    assert found.returncode == 1
    (error,) = [line for line in found.text.splitlines() if line.startswith("Error: ")]
    assert "sub-01_task-r" in error
    assert "Traceback" not in found.text
