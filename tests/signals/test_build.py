from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys

import mne
import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams, SelectionParams
from hbn_foundation.signals import build, parallel
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.content import cleaning_hash
from hbn_foundation.signals.params import BuildParams
from hbn_foundation.signals.store import SignalStore
from recordings.eeg_files import (
    bids_file,
    never_read,
    noise,
    raw_array,
    write,
    write_channels,
)

SFREQ = 128.0


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "bids"
    for subject in ("1", "2", "3", "4"):
        signal = noise(14, int(20 * SFREQ), SFREQ, seed=int(subject))
        write(raw_array(signal, SFREQ), bids_file(root, ".edf", subject))
    return root


@pytest.fixture
def cleaned(monkeypatch):
    """Names of the recordings that are cleaned, in this process."""
    from hbn_foundation.recordings import clean

    names = []
    original = clean.clean_recording

    def counted(row, params, out, raw=None):
        names.append(row["recording"])
        return original(row, params, out, raw)

    monkeypatch.setattr(clean, "clean_recording", counted)
    return names


def make(root, store, **options):
    options = {"n_jobs": 0, **options}
    selection = options.pop("selection", None)
    cleaning = options.pop("cleaning", None)
    recordings = find_recordings(root, selection)
    return build_store(recordings, BuildParams(path=str(store), **options), cleaning)


def test_a_store_is_built_and_reopened(root, tmp_path):
    store = make(root, tmp_path / "store", n_jobs=2)
    assert list(store.recordings["subject"]) == ["1", "2", "3", "4"]
    assert store.sfreq == 100.0
    assert len(store.channel_names) == 14
    assert store.signal(2).shape == (2000, 14)
    again = SignalStore(tmp_path / "store")
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(again.signal(1), store.signal(1))
    assert {"amplitude_uv", "line_noise", "duration", "reason"} <= set(again.table)
    assert not list((tmp_path / "store").rglob(".*"))
    alone = make(root, tmp_path / "alone")  # without workers
    assert alone.fingerprint == store.fingerprint
    pd.testing.assert_frame_equal(alone.table, store.table)
    for row in range(4):
        np.testing.assert_array_equal(alone.signal(row), store.signal(row))


def test_unchanged_recordings_are_left_alone(root, tmp_path, cleaned, monkeypatch):
    first = make(root, tmp_path / "store")
    os.utime(bids_file(root, ".edf", "1"), (1, 1))  # read again, for its content
    signals = tmp_path / "store" / "signals"
    before = {path.name: path.stat().st_mtime_ns for path in signals.iterdir()}
    assert make(root, tmp_path / "store").fingerprint == first.fingerprint
    monkeypatch.setattr(parallel, "_Worker", None)  # none is started for nothing
    assert len(make(root, tmp_path / "store", n_jobs=2)) == 4
    assert len(cleaned) == 4
    assert {path.name: path.stat().st_mtime_ns for path in signals.iterdir()} == before


def test_a_file_replaced_by_one_of_its_size_and_time_is_cleaned_again(root, tmp_path, cleaned):
    first = make(root, tmp_path / "store")
    path = bids_file(root, ".edf", "2")
    before = path.stat()
    write(raw_array(noise(14, int(20 * SFREQ), SFREQ, seed=99), SFREQ), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    second = make(root, tmp_path / "store")
    assert cleaned[4:] == ["sub-2_task-rest"]
    assert second.fingerprint != first.fingerprint
    assert not np.array_equal(second.signal(1), first.signal(1))
    assert np.array_equal(second.signal(0), first.signal(0))


def test_sidecars_count_as_content(root, tmp_path, cleaned, caplog):
    first = make(root, tmp_path / "store")
    write_channels(bids_file(root, ".edf", "4"), [("Fp1", "EOG", "good")])
    events = bids_file(root, ".edf", "3").with_name("sub-3_task-rest_events.tsv")
    events.write_text("onset\tduration\ttrial_type\n3\t1\tBAD_move\n")
    with caplog.at_level("INFO"):
        store = make(root, tmp_path / "store")
    assert "1.0 s of 1 recording are left out as pauses" in caplog.text
    assert "has a note on 1 recording, the first: 1.0 s " in caplog.text
    assert cleaned[4:] == ["sub-3_task-rest", "sub-4_task-rest"]
    assert store.recordings["n_channels"].tolist() == [14, 14, 14, 13]
    assert not store.usable(3)[store.channel_names.index("Fp1")]
    assert first.timeline(2).bad == ()
    assert store.timeline(2).bad == ((300, 400),)
    assert store.table["seconds_left_out"].tolist() == [0, 0, 1, 0]
    assert store.table["note"].tolist() == ["", "", "1.0 s marked bad (BAD_move)", ""]


def test_other_parameters_make_other_signals_and_leave_the_former(root, tmp_path, cleaned):
    first = make(root, tmp_path / "store")
    former = np.array(first.signal(0))
    second = make(root, tmp_path / "store", cleaning=CleaningParams(h_freq=30.0))
    assert len(cleaned) == 8
    np.testing.assert_array_equal(first.signal(0), former)
    assert second.fingerprint != first.fingerprint
    # so does another selection, while a signal that is lost is made again
    few = make(root, tmp_path / "store", selection=SelectionParams(subjects=[1, 3]))
    assert list(few.table["subject"]) == ["1", "3"]
    assert len(make(root, tmp_path / "store")) == 4
    assert len(cleaned) == 8
    first.signal_file(0).unlink()
    make(root, tmp_path / "store")
    assert cleaned[8:] == ["sub-1_task-rest"]
    # the length of the chunks is no parameter of the result
    assert cleaning_hash(CleaningParams()) == cleaning_hash(CleaningParams(chunk_seconds=20))
    assert cleaning_hash(CleaningParams()) != cleaning_hash(CleaningParams(l_freq=1.0))


def test_a_truncated_recording_is_out_of_the_rows_until_it_is_repaired(root, tmp_path, caplog):
    path = bids_file(root, ".edf", "2")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    tables = []
    for _ in range(2):  # a reason that is known from before is told, too
        caplog.clear()
        with caplog.at_level("INFO"):
            store = make(root, tmp_path / "store", max_failed_share=0.3)
        assert "1 cannot be used: sub-2_task-rest: truncated: " in caplog.text
        tables.append(store.table)
    assert tables[0].equals(tables[1])
    failed = store.table.set_index("subject").loc["2"]
    assert failed["status"] == "failed"
    assert failed["reason"].startswith("truncated: ")
    assert len(store) == 3
    assert list(store.recordings["subject"]) == ["1", "3", "4"]
    assert list(store.recordings.index) == [0, 1, 2]
    path.write_bytes(whole)
    assert len(make(root, tmp_path / "store")) == 4


def test_too_many_failures_end_the_build_with_a_list_and_nothing_is_lost(root, tmp_path):
    for subject in "23":
        bids_file(root, ".edf", subject).write_bytes(b"")
    says = (
        r"^2 of the first 3 recordings \(4 in all\) cannot be used, more than .* = 0.25 .*: sub-2"
    )
    with pytest.raises(UserError, match=says) as e:
        make(root, tmp_path / "store", max_failed_share=0.25)
    failed = tmp_path / "store" / "failed.csv"
    assert str(e.value).endswith(f"see {failed}")
    assert "\n" not in str(e.value)
    table = pd.read_csv(failed)
    assert table["recording"].tolist() == ["sub-2_task-rest", "sub-3_task-rest"]
    assert set(table["reason"]) == {"empty file (0 bytes)"}
    assert not (tmp_path / "store" / "index.parquet").exists()
    assert list((tmp_path / "store" / "signals").glob("*.npy"))
    assert len(make(root, tmp_path / "store", n_jobs=2, max_failed_share=0.5)) == 2
    assert not failed.exists()
    for subject in "14":
        bids_file(root, ".edf", subject).write_bytes(b"")
    with pytest.raises(UserError, match=r"4 of 4 recordings cannot be used.*empty file"):
        make(root, tmp_path / "store", max_failed_share=1.0)


@pytest.mark.parametrize("place", ["store", "store/signals"])
def test_a_store_that_cannot_be_written_is_told_at_once(root, tmp_path, cleaned, place):
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.touch()
    with pytest.raises(UserError, match=r"store\.path: .*store.* cannot be written \(.*\)") as e:
        make(root, tmp_path / "store")
    assert "\n" not in str(e.value)
    assert cleaned == []


@pytest.mark.parametrize("fault", ["store", "recording", "code"])
def test_what_goes_wrong_is_a_fault_of_the_store_or_of_one_recording(
    root, tmp_path, monkeypatch, fault
):
    from hbn_foundation.recordings import clean

    original = clean.clean_recording

    def faulty(row, params, out, raw=None):
        if row["subject"] != "2":
            return original(row, params, out)
        if fault == "code":
            raise KeyError("something\nodd")
        raise PermissionError(
            13, "Permission denied", str(out if fault == "store" else row["path"])
        )

    monkeypatch.setattr(clean, "clean_recording", faulty)
    if fault == "store":
        with pytest.raises(UserError, match=r"store\.path: .* cannot be written \(Permission den"):
            make(root, tmp_path / "store")
    else:
        reason = make(root, tmp_path / "store", max_failed_share=0.3).table["reason"].iat[1]
        assert reason.startswith("PermissionError: " if fault == "recording" else "KeyError: ")
        assert "\n" not in reason
    monkeypatch.setattr(clean, "clean_recording", original)
    assert len(make(root, tmp_path / "store")) == 4


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(errno.EIO, "Input/output error"), "samples"),
        (OSError(errno.ESTALE, "Stale file handle"), "open"),
        (PermissionError(errno.EACCES, "Permission denied"), "open"),
        (TimeoutError("timed out"), "samples"),
        (ModuleNotFoundError("No module named 'pymatreader'"), "open"),
        (MemoryError(), "open"),
        (MemoryError(), "samples"),
    ],
)
def test_a_passing_error_is_no_verdict_on_a_file(root, tmp_path, monkeypatch, error, where):
    original = mne.io.read_raw if where == "open" else mne.io.BaseRaw.get_data

    def failing(first, *args, **options):
        if "sub-2" in str(first if where == "open" else first.filenames[0]):
            try:
                raise error
            except Exception as cause:
                raise RuntimeError("as readers tell it") from cause
        return original(first, *args, **options)

    place = (mne.io, "read_raw") if where == "open" else (mne.io.BaseRaw, "get_data")
    with monkeypatch.context() as patch:
        patch.setattr(*place, failing)
        store = make(root, tmp_path / "store", max_failed_share=0.3)
    assert store.table["reason"].iat[1].endswith("; tried again in the next run")
    assert len(make(root, tmp_path / "store")) == 4


def test_two_recordings_of_one_name(root, tmp_path):
    table = find_recordings(root).assign(recording="sub-1_task-rest")
    with pytest.raises(UserError, match="two recordings named 'sub-1_task-rest'"):
        build_store(table, BuildParams(path=str(tmp_path / "store")))


def test_a_full_disk_keeps_what_is_written(root, tmp_path, cleaned):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(small)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(UserError, match=r"small/.*: disk full, 168,000 bytes needed"):
            make(root, small)
        kept = list((small / "signals").glob("*.npy"))
        assert len(kept) == 2
        assert all(np.load(path).shape == (2000, 14) for path in kept)
        assert not list(small.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=10m", str(small)], check=True)
        assert len(make(root, small)) == 4
        assert cleaned.count("sub-1_task-rest") == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_whose_reader_never_returns_is_left_out_and_tried_again(root, tmp_path):
    bids_file(root, ".edf", "2").unlink()
    path = write(raw_array(noise(14, 2560, SFREQ), SFREQ), bids_file(root, ".fif", "2"))
    whole = path.read_bytes()
    never_read(path)
    options = {"max_failed_share": 1.0, "n_jobs": 2}
    for seconds in (3, 30):  # a busy machine takes long for the others, too
        with contextlib.suppress(UserError):  # none was read in time
            store = make(root, tmp_path / "store", max_seconds=seconds, **options)
            if list(store.recordings["subject"]) == ["1", "3", "4"]:
                break
    assert store.table.set_index("subject").loc["2", "reason"] == (
        f"ended because it took more than {seconds} s; tried again in the next run"
    )
    assert list(store.recordings["subject"]) == ["1", "3", "4"]
    path.write_bytes(whole)
    assert len(make(root, tmp_path / "store", **options)) == 4


def test_limits_reach_the_workers(root, tmp_path, monkeypatch):
    given = []

    def results(function, tasks, n_jobs, limits):
        given.append((limits.memory_gb, {limits.seconds(task) for task in tasks}))
        return ((task, function(task)) for task in tasks)

    monkeypatch.setattr(build, "run_parallel", results)
    size = bids_file(root, ".edf", "2").stat().st_size
    with bids_file(root, ".txt", "2").open("wb") as of_the_recording:
        of_the_recording.truncate(20_000_000 - size)
    make(root, tmp_path / "store", max_seconds=7, max_memory_gb=3)
    [(memory, seconds)] = given
    assert memory == 3
    assert min(seconds) == pytest.approx(7, rel=0.1)
    assert max(seconds) == pytest.approx(21)


def test_eegmat_is_ingested_whole(eegmat_root, tmp_path, cleaned):
    store = make(eegmat_root, tmp_path / "store")
    assert len(store) == len(store.table) == 40
    assert (store.recordings["n_channels"] == 19).all()
    assert len(store.channel_names) == 19
    assert {"A2", "ECG"}.isdisjoint(store.channel_names)
    assert store.recordings["n_bad"].sum() <= 8
    assert len(cleaned) == 40
    make(eegmat_root, tmp_path / "store")
    assert len(cleaned) == 40


INTERRUPTED = """
import os, signal, sys
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.signals import build, journal
add, added = journal.Journal.add, []
def dies(self, row):
    add(self, row)
    added.append(row)
    if len(added) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.add = dies
store = build.BuildParams(path=sys.argv[2], n_jobs=0)
build.build_store(find_recordings(sys.argv[1]), store)
"""


def test_what_a_killed_build_has_cleaned_is_kept(root, tmp_path, cleaned):
    store = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(root), str(store)], check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    with (store / "journal.jsonl").open("a") as file:
        file.write('\n{"recording": "sub-4_ta')  # as far as a crash let it write
    assert not (store / "cleaned.parquet").exists()
    assert len(make(root, store)) == 4
    assert cleaned == ["sub-4_task-rest"]
    assert (store / "cleaned.parquet").is_file()
    assert not (store / "journal.jsonl").exists()
