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
from hbn_foundation.signals.params import BuildParams
from hbn_foundation.signals.windows import cut_trial_windows
from kedro_project import KedroProject
from recordings.eeg_files import in_head_coordinates

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

    def run(root: Path) -> Ingested:
        params = f"ingestion.source.root={root}"
        done = project.kedro("run", "--pipeline", "ingestion", "--params", params, timeout=120)
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
    store = build_store(
        find_recordings(root), BuildParams(path=str(folder / "reference_store"), n_jobs=1)
    )
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


def on_the_sphere(montage: str) -> np.ndarray:
    """Unit vectors of the electrodes of one of MNE's montages."""
    return to_unit_sphere(np.array(list(in_head_coordinates(montage).values())))


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


def no_notes(found: Ingested) -> None:
    assert set(found.quality["note"]) == {""}
    assert set(found.splits["split"]) == {"train", "validation", "test"}
    assert list(found.participants["age"]) == [9, 10, 11, 12, 13, 14]


def wide_pass_band(found: Ingested) -> None:
    assert (found.quality["h_freq"] > 45).all()


def fz_is_bad(found: Ingested) -> None:
    assert all(found.bad(subject) == {"Fz"} for subject in SUBJECTS)
    assert all("Fp1" not in found.names(subject) for subject in SUBJECTS)


def usual_amplitudes(found: Ingested) -> None:
    assert found.quality["amplitude_uv"].between(5, 50).all()


def only_the_scalp(found: Ingested) -> None:
    assert found.names("01") == ["F3", "F4", "C3", "C4", "O1", "O2"]


def odd_ages(found: Ingested) -> None:
    ages = pd.to_numeric(found.participants["age"], errors="coerce")
    assert list(ages[["02", "04", "05", "06"]]) == [28, 31, 40, 22]
    assert "18-38" in found.text
    sexes = found.participants["sex"].astype(str).str.lower().str[0]
    assert list(sexes) == ["f", "f", "f", "m", "m", "m"]


def ages_and_sexes(found: Ingested) -> None:
    assert list(found.participants["age"].astype(float)) == [9, 10, 11, 12, 13, 14]
    assert found.participants["sex"].notna().all()


def nothing_more(found: Ingested) -> None:
    pass


@pytest.mark.parametrize(
    ("script", "recorded", "kept", "holds"),
    [
        ("00_control.py", (19, 128), 19, no_notes),
        # the low-pass of another channel is not the EEG's
        ("02_edf_prefilter.py", (20, 200), 19, wide_pass_band),
        # a sidecar in another encoding, or with names written otherwise
        ("03_channels_cp1252.py", (19, 128), 19, fz_is_bad),
        ("22_channel_names_differ.py", (19, 128), 19, fz_is_bad),
        ("09_edf_units.py", (19, 128), 19, usual_amplitudes),
        ("10_edf_latin1_notes.py", (19, 128), 19, nothing_more),
        ("25_psg_e1_e2.py", (10, 200), 6, only_the_scalp),
        ("27_participants_odd.py", (19, 128), 19, odd_ages),
        ("28_participants_cp1252.py", (19, 128), 19, ages_and_sexes),
    ],
)
def test_signals_are_those_of_undisturbed_files(script, recorded, kept, holds, ingest, tmp_path):
    made = write_case(script, tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    n, sfreq = recorded
    signals = {s: made["sig"](i, n, sfreq, 30)[:kept] for i, s in enumerate(SUBJECTS)}
    names = made["names"][:kept] if kept < 19 else made["N19"]
    channels = marked(names) if holds is fz_is_bad else ""
    right = reference(made, tmp_path, names, signals, sfreq, channels)
    for subject in SUBJECTS:
        assert same_signal(found.signal(subject), right[subject])
    holds(found)


def test_01_nothing_lies_across_a_pause(ingest, tmp_path):
    made = write_case("01_edfd_gaps.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    assert found.quality["note"].str.contains("60 s|gap|pause", regex=True).all()
    whole = {s: made["sig"](i, 19, 128, 30) for i, s in enumerate(SUBJECTS)}
    first = {s: x[:, : 10 * 128] for s, x in whole.items()}
    second = {s: x[:, 10 * 128 :] for s, x in whole.items()}
    before = reference(made, tmp_path / "before", made["N19"], first, 128)
    after = reference(made, tmp_path / "after", made["N19"], second, 128)
    for subject in SUBJECTS:
        signal = found.signal(subject)
        assert same_signal(signal[:1000], before[subject])
        assert same_signal(signal[1000:].reset_index(drop=True), after[subject])
    starts = found.windows["start"]
    assert not ((starts > 800) & (starts < 1000)).any()
    assert (found.windows.groupby("subject").size() >= 14).all()
    usable = found.trials[found.trials["excluded"] == ""]
    assert usable.groupby("subject").size().eq(3).all()
    windows = cut_trial_windows(found.store, found.trials)
    starts = windows.groupby("subject")["start"].apply(list)
    # 0.5 s after the stimuli at 3, 76 and 81 s, the last two 60 s of pause earlier in the signal
    assert list(starts) == [[350, 1650, 2150]] * 6


def test_05_positions_in_the_file_outrank_names(ingest, tmp_path):
    write_case("05_eeg001_fif.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    true = on_the_sphere("biosemi32")
    assert found.angles(dict(zip(found.names("01"), true, strict=True))).max() < MOST_DEGREES


def test_06_numbers_without_leading_zeros_meet_their_folders(ingest, tmp_path):
    write_case("06_participants_padding.py", tmp_path / "root")
    ages_and_sexes(ingest(tmp_path / "root"))


@pytest.mark.parametrize(
    "script", ["08_electrodes_unit.py", "08b_electrodes_ctf.py", "18_decimal_commas.py"]
)
def test_08_18_electrodes_of_another_unit_axes_or_decimal_sign(script, ingest, tmp_path):
    made = write_case(script, tmp_path / "root")
    found = ingest(tmp_path / "root")
    assert list(found.quality["status"]) == ["ok"] * 6
    assert found.quality["note"].ne("").all()
    names = mne.channels.make_standard_montage("biosemi16").ch_names
    true = dict(zip(made["names"], on_the_sphere("biosemi16"), strict=True))
    assert found.angles(true).max() < MOST_DEGREES
    if script == "18_decimal_commas.py":
        ages = found.participants["age"].astype(float)
        assert list(ages) == [8.5, 9.5, 10.5, 11.5, 12.5, 13.5]
        return
    signals = {s: made["sig"](i, 16, 128, 30) for i, s in enumerate(SUBJECTS)}
    right = reference(made, tmp_path, names, signals, 128)
    for subject in SUBJECTS:
        signal = found.signal(subject)
        assert same_signal(signal, right[subject].set_axis(signal.columns, axis=1))


def test_14_a_faster_channel_changes_nothing(ingest, tmp_path):
    made = write_case("14_edf_mixed_rates.py", tmp_path / "root")
    found = ingest(tmp_path / "root")
    signals = {s: made["sig"](i, 19, 128, 200) for i, s in enumerate(SUBJECTS[:3])}
    right = reference(made, tmp_path, made["N19"], signals, 128)
    for with_emg, alone in zip(SUBJECTS[:3], SUBJECTS[3:], strict=True):
        assert same_signal(found.signal(with_emg), right[with_emg])
        assert same_signal(found.signal(alone), right[with_emg])


def test_26_signals_that_were_replaced_are_read_anew(ingest, tmp_path):
    for change, offset, amplitude in (((), 0, ()), (("change",), 50, (80.0,))):
        made = write_case("26_stale_data_file.py", tmp_path / "root", *change)
        found = ingest(tmp_path / "root")
        signals = {
            s: made["sig"](i + offset, 19, 128, 30, *amplitude) for i, s in enumerate(SUBJECTS)
        }
        right = reference(made, tmp_path / str(offset), made["N19"], signals, 128)
        for subject in SUBJECTS:
            assert same_signal(found.signal(subject), right[subject])


@pytest.mark.parametrize(
    ("script", "told"), [("23_bipolar_banana.py", "bipolar"), ("29_damaged_fif", "sub-01_task-r")]
)
def test_what_cannot_be_used_ends_in_one_line(script, told, ingest, tmp_path):
    """Bipolar derivations, and a file whose reader never returns."""
    root = tmp_path / "root" if script.endswith(".py") else CASES / script
    if script.endswith(".py"):
        write_case(script, root)
    elif not root.is_dir():
        pytest.skip(f"{root} is not here")
    found = ingest(root)
    assert found.returncode == 1
    (error,) = [line for line in found.text.splitlines() if line.startswith("Error: ")]
    assert told in error
    assert "Traceback" not in found.text
