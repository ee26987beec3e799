"""Every format is read, and a file that cannot be read has a reason in one line."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from hbn_foundation.recordings.montage import template_positions
from hbn_foundation.recordings.read import UnreadableRecording
from recordings.eeg_files import (
    NAMES,
    bids_file,
    cut_to,
    noise,
    opened,
    raw_array,
    write,
    write_sidecar,
)

SFREQ = 128.0


@pytest.fixture
def signal():
    return noise(14, int(10 * SFREQ), SFREQ)


@pytest.mark.parametrize("ending", [".edf", ".bdf", ".set", ".vhdr", ".fif"])
def test_every_format_is_read_with_names_and_places(tmp_path, signal, ending):
    path = write(raw_array(signal, SFREQ), bids_file(tmp_path, ending))
    found = opened(tmp_path, path)
    assert found.channels.names == [*NAMES[:-1], "T7"]
    np.testing.assert_allclose(found.channels.positions, template_positions(found.channels.names))
    n = int(found.file.raw.n_times)
    assert n >= 9 * SFREQ
    assert np.abs(found.read(0, n) - signal[:, :n]).max() < 2e-8


def test_egi_raw_is_read(tmp_path, signal):
    path = bids_file(tmp_path, ".raw")
    # simple binary, version 4 (float32), without events
    head = [([4], ">i4"), ([2020, 1, 1, 0, 0, 0], ">i2"), ([0], ">i4"), ([128, 8, 1, 0, 0], ">i2"),
            ([signal.shape[1]], ">i4"), ([0], ">i2"), (signal[:8].T * 1e6, ">f4")]  # fmt: skip
    path.write_bytes(b"".join(np.ascontiguousarray(x, kind).tobytes() for x, kind in head))
    found = opened(tmp_path, path)
    assert found.channels.names == [f"E{i}" for i in range(1, 9)]
    np.testing.assert_allclose(found.read(0, 1280), signal[:8], atol=1e-8)


@pytest.mark.parametrize("ending", [".edf", ".bdf", ".set", ".vhdr", ".fif", ".raw"])
@pytest.mark.parametrize("content", [b"", b"this is no EEG\n" * 40])
def test_empty_and_text_files_have_a_reason(tmp_path, ending, content):
    path = bids_file(tmp_path, ending)
    path.write_bytes(content)
    with pytest.raises(UnreadableRecording, match=r"\A[^\n]+\Z") as caught:
        opened(tmp_path, path)
    assert ("empty file (0 bytes)" in str(caught.value)) == (content == b"")


def eeglab(path, signal):
    """Write a recording whose samples are in a file of their own; return that."""
    data, n = path.with_suffix(".fdt"), signal.shape[1]
    data.write_bytes(np.ascontiguousarray(signal.T * 1e6, "<f4").tobytes())
    labels = np.array([(n,) for n in NAMES], dtype=[("labels", object)])
    eeg = {
        "data": data.name, "nbchan": 14.0, "pnts": float(n), "trials": 1.0, "srate": SFREQ,
        "xmin": 0.0, "xmax": n / SFREQ, "chanlocs": labels, "event": [], "setname": "x",
        "filename": path.name, "datfile": data.name, "icawinv": [], "icaweights": [],
    }  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
    return data


@pytest.mark.parametrize("ending", [".edf", ".bdf", ".vhdr", ".set"])
def test_a_truncated_file_has_a_reason(tmp_path, signal, ending):
    path = bids_file(tmp_path, ending)
    if ending == ".set":
        data = eeglab(path, signal)
        n = signal.shape[1]
        np.testing.assert_allclose(opened(tmp_path, path).read(0, n), signal, atol=1e-9)
    else:
        write(raw_array(signal, SFREQ), path)
        data = path.with_suffix(".eeg") if ending == ".vhdr" else path
    cut_to(data, data.stat().st_size * 2 // 3)
    reason = r"truncated: 6\.\d of 10\.0 s are there" if data == path else "truncated"
    with pytest.raises(UnreadableRecording, match=reason):
        opened(tmp_path, path)
    if data == path:
        cut_to(path, 200)
        reason = "damaged|header"
    else:
        data.unlink()
        reason = data.name
    with pytest.raises(UnreadableRecording, match=reason):
        opened(tmp_path, path)


def test_a_brainvision_file_without_a_length_is_measured_by_its_sidecar(tmp_path, signal):
    path = write(raw_array(signal, SFREQ), bids_file(tmp_path, ".vhdr"))
    cut_to(path.with_suffix(".eeg"), 14 * 4 * 500)
    write_sidecar(path, RecordingDuration=10.0)
    text = path.read_text()
    path.write_text("\n".join(x for x in text.splitlines() if not x.startswith("DataPoints")))
    with pytest.raises(UnreadableRecording, match=r"truncated: 3\.9 of 10\.0 s"):
        opened(tmp_path, path)


def test_a_rate_of_zero(tmp_path, signal):
    path = write(raw_array(signal, SFREQ), bids_file(tmp_path, ".edf"))
    content = bytearray(path.read_bytes())
    content[244:252] = b"0       "
    path.write_bytes(content)
    with pytest.raises(UnreadableRecording, match="sampling rate of 0 Hz"):
        opened(tmp_path, path)


def test_a_missing_file(tmp_path):
    with pytest.raises(UnreadableRecording, match="the file is missing"):
        opened(tmp_path, bids_file(tmp_path, ".edf"))
    path = bids_file(tmp_path, ".mff")
    path.mkdir()
    with pytest.raises(UnreadableRecording, match="empty folder"):
        opened(tmp_path, path)


@pytest.mark.parametrize("name", ["x" * 300 + ".eeg", "x\0.eeg", "../" * 2000 + "x.eeg", "."])
def test_a_data_file_whose_name_cannot_be_is_a_reason(tmp_path, signal, name):
    header = write(raw_array(signal[:4], SFREQ), bids_file(tmp_path, ".vhdr"))
    text = header.read_text().replace(f"DataFile={header.stem}.eeg", f"DataFile={name}")
    header.write_text(text)
    with pytest.raises(UnreadableRecording, match=r"\A[^\n]+\Z"):
        opened(tmp_path, header)
