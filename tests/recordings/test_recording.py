"""What is read is the EEG's own: its rate, its filters, its time."""

from __future__ import annotations

from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from hbn_foundation.recordings.clean import clean_recording
from hbn_foundation.recordings.edf import cutoff
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.read import UnreadableRecording
from recordings.eeg_files import (
    NAMES,
    beside,
    bids_file,
    edf,
    noise,
    opened,
    raw_array,
    row,
    write,
    write_channels,
)

SFREQ = 128.0


def header_changed(path: Path, at: int, field: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(field)] = field
    path.write_bytes(bytes(content))
    return path


def pause_from(path: Path, record: int, seconds: int) -> None:
    """Make a file of records of 1 s discontinuous: a pause before one of its records."""
    n_bytes = 2 if path.suffix == ".edf" else 3
    header_changed(path, 192, b"EDF+D" if n_bytes == 2 else b"BDF+D")
    content = bytearray(path.read_bytes())
    head, n = int(content[184:192]), int(content[252:256])
    samples = [int(content[256 + 216 * n + 8 * i : 256 + 216 * n + 8 * i + 8]) for i in range(n)]
    width = n_bytes * samples[-1]
    for number in range(record, int(content[236:244])):
        end = head + (number + 1) * n_bytes * sum(samples)
        field = bytes(content[end - width : end])
        time = b"+%d\x14\x14" % number
        assert field.startswith(time)
        later = b"+%d\x14\x14" % (number + seconds) + field[len(time) :]
        content[end - width : end] = later[:width]
    path.write_bytes(bytes(content))


def cleaned(root: Path, path: Path, **params):
    out = path.with_suffix(".npy")
    recording = clean_recording(row(root, path), CleaningParams(**params), out)
    return recording, np.load(out).astype(float)


def fif(root: Path, seconds: float = 20) -> Path:
    """Write 14 channels of noise at 250 Hz."""
    return write(raw_array(noise(14, int(seconds * 250), 250.0), 250.0), bids_file(root, ".fif"))


def write_events(path: Path, *rows: tuple) -> None:
    lines = ["onset\tduration\ttrial_type", *("\t".join(map(str, r)) for r in rows)]
    beside(path, "events.tsv").write_text("\n".join(lines) + "\n")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Least correlation of a channel of two signals (T, C)."""
    return min(float(np.corrcoef(x, y)[0, 1]) for x, y in zip(a.T, b.T, strict=True))


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
@pytest.mark.parametrize("rate", [512.0, 32.0])
def test_a_channel_of_another_rate_changes_nothing(tmp_path, ending, rate):
    eeg = noise(14, int(70 * SFREQ), SFREQ)
    other = noise(1, int(70 * rate), rate, seed=5)
    alone = edf(bids_file(tmp_path / "a", ending), eeg, SFREQ)
    path, rates = bids_file(tmp_path / "b", ending), [rate, *[SFREQ] * 14]
    edf(path, [other[0], *eeg], rates, ("EMG1", *NAMES))
    write_channels(path, [("EMG1", "EMG", "good"), *((n, "EEG", "good") for n in NAMES)])
    # chunks that do not begin where a data record does
    expected, signal = cleaned(tmp_path / "a", alone, chunk_seconds=10.3)
    found, same = cleaned(tmp_path / "b", path, chunk_seconds=10.3)
    assert found.names == expected.names
    assert found.quality["sfreq_file"] == SFREQ
    assert same.shape == signal.shape
    assert correlation(same, signal) > 0.9999
    np.testing.assert_allclose(found.scales, expected.scales, rtol=1e-3)


def test_eeg_channels_of_a_minority_rate_are_left_out_and_named(tmp_path):
    signals = [*noise(12, int(20 * SFREQ), SFREQ), *noise(2, 20 * 512, 512)]
    path = edf(bids_file(tmp_path, ".edf"), signals, [SFREQ] * 12 + [512.0] * 2)
    found, signal = cleaned(tmp_path, path)
    assert signal.shape == (2000, 12)
    assert "T7" not in found.names
    assert "left out, as they are not sampled at 128 Hz like most: Pz, T7" in found.quality["note"]


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
def test_filters_of_other_channels_are_not_those_of_the_eeg(tmp_path, ending):
    # another signal first, so that a list of the EEG channels alone has other places
    filters = ["HP: DC; LP: 5 Hz", *["HP:0.1Hz LP:40Hz N:50Hz"] * 12, "HP:10Hz LP:90Hz"]
    names = ("Thorax", *NAMES[:13])
    signals = noise(14, int(20 * SFREQ), SFREQ)
    path = edf(bids_file(tmp_path, ending), signals, SFREQ, names, filters)
    kinds = ["RESP", *["EEG"] * 12, "EMG"]
    write_channels(path, [(n, kind, "good") for n, kind in zip(names, kinds, strict=True)])
    found, _ = cleaned(tmp_path, path)
    assert found.quality["h_freq"] == 40
    assert found.quality["note"] == "low-passed at 40 Hz, which is the file's own low-pass"


def test_one_eeg_channel_with_a_filter_of_its_own_does_not_filter_the_rest(tmp_path):
    signals = noise(14, int(20 * SFREQ), SFREQ)
    filters = ["HP: 1 Hz LP:70Hz"] * 12 + ["HP:0.3s LP:70Hz", "LP:5Hz"]
    path = edf(bids_file(tmp_path, ".edf"), signals, SFREQ, filters=filters)
    found, _ = cleaned(tmp_path, path)
    assert found.quality["h_freq"] == pytest.approx(48)
    told = "most EEG channels, by the file's header: 70 Hz; others: T7 (5 Hz)"
    assert told in found.quality["note"]
    assert found.quality["l_freq"] == 1
    assert "the band begins at 1 Hz, which is the file's own high-pass" in found.quality["note"]


@pytest.mark.parametrize(
    ("text", "high", "low"),
    [
        ("HP:0.1Hz LP:40Hz N:50Hz", 0.1, 40), ("HP: DC; LP: 5 Hz", None, 5), ("", None, None),
        ("HP=.5LP=0,2kHz", 0.5, 200), ("LP: 35 slope 12dB", None, 35), ("HP:0.3s", None, None),
        ("HP:100mHz LP:40 Sens:7", 0.1, 40), ("HP:100 ms LP:1k", None, 1000),
    ],
)  # fmt: skip
def test_cutoffs_are_read_in_their_units(text, high, low):
    expected = [float("nan") if value is None else value for value in (high, low)]
    assert [cutoff(kind, text) for kind in ("HP", "LP")] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("others", ["Off", "1000", "5"])
def test_filters_of_brainvision_are_read_by_channel(tmp_path, others):
    path = write(raw_array(noise(14, 5000, 250.0), 250.0), bids_file(tmp_path, ".vhdr"))
    cutoffs = ["30"] * 12 + [others] * 2
    lines = [
        "[Comment]", "", "A m p l i f i e r  S e t u p", "============================",
        "Number of channels: 14", "Sampling Rate [Hz]: 250", "", "Channels", "--------",
        "#     Name      Phys. Chn.    Resolution / Unit   Low Cutoff [s]   High Cutoff [Hz]   "
        "Notch [Hz]    Series Res. [kOhm] Gradient         Offset",
        *(
            f"{i}     {name}         {i}                0.1 µV             {seconds}          "
            f"   {cut}              Off                0"
            for i, (name, cut, seconds) in enumerate(
                zip(NAMES, cutoffs, ["0.1"] * 12 + ["DC"] * 2, strict=True), 1
            )
        ),
    ]  # fmt: skip
    path.write_text(path.read_text().replace("[Comment]", "\n".join(lines)))
    recording = opened(tmp_path, path)
    assert recording.lowpass == 30
    assert recording.highpass == pytest.approx(1 / (0.2 * np.pi))


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
def test_a_pause_of_a_discontinuous_file_is_no_signal(tmp_path, ending):
    """Each side is what it is alone, and times are real times, those of marks, too."""
    eeg = noise(14, int(30 * SFREQ), SFREQ)
    eeg[:, int(10 * SFREQ) :] += 2e-3  # a step, across which a filter would ring
    marks = [edfio.EdfAnnotation(75, 2, "BAD_move"), edfio.EdfAnnotation(3, 1, "bad")]
    root = tmp_path / "whole"
    path = edf(bids_file(root, ending), eeg, SFREQ, annotations=marks)
    pause_from(path, 10, 60)
    found, signal = cleaned(root, path)
    assert found.timeline.stretches == ((0, 1000, 0.0), (1000, 3000, 70.0))
    assert found.timeline.bad == ((300, 400), (1500, 1700))
    assert found.quality["seconds_left_out"] == 63
    assert found.quality["note"] == (
        "3.0 s marked bad (BAD_move, bad); 60.0 s not recorded (pauses)"
    )
    for part, (a, b) in enumerate([(0, 10), (10, 30)]):
        piece = eeg[:, int(a * SFREQ) : int(b * SFREQ)]
        _, expected = cleaned(tmp_path, edf(bids_file(tmp_path, ending), piece, SFREQ))
        assert correlation(signal[100 * a : 100 * b], expected) > 0.9999, part


def test_what_a_header_has_wrong_is_told(tmp_path):
    path = edf(bids_file(tmp_path, ".edf"), noise(14, 1280, SFREQ), SFREQ)
    found, signal = cleaned(tmp_path, header_changed(path, 192, b"EDF+D"))
    assert len(signal) == 1000
    assert "its records have no times that increase: read as continuous" in found.quality["note"]
    header_changed(path, 236, b"-1      ")  # records unknown: counted by the file's size
    assert any("does not match the file size" in note for note in opened(tmp_path, path).file.notes)


def test_skips_of_fif_are_not_stored(tmp_path):
    raw = raw_array(noise(14, 40 * 250, 250.0), 250.0)
    raw.set_annotations(mne.Annotations([10.0], [5.0], ["BAD_ACQ_SKIP"]))
    path = bids_file(tmp_path, ".fif")
    raw.save(path, buffer_size_sec=1.0, verbose="ERROR")
    assert not mne.io.read_raw(path, verbose="ERROR").get_data(start=2600, stop=3700).any()
    write_events(path, (20.0, 0.5, "BAD_noise"), (12.0, 0, "go"))
    found, signal = cleaned(tmp_path, path)
    assert found.timeline.stretches == ((0, 1000, 0.0), (1000, 3500, 15.0))
    assert found.timeline.bad == ((1500, 1550),)
    assert found.quality["seconds_left_out"] == 5.5
    assert np.abs(signal).reshape(-1, 50, 14).max(axis=(1, 2)).min() > 0.1


def test_boundaries_cut_and_shift_no_time(tmp_path):
    eeg = noise(14, 30 * 250, 250.0)
    eeg[:, 2500:] += 3e-3
    raw = raw_array(eeg, 250.0)
    # EEGLAB puts boundaries between two samples; the duration is that of what was removed
    raw.set_annotations(mne.Annotations([2499.5 / 250, 29.0], [7.0, 0], ["boundary"] * 2))
    path = write(raw, bids_file(tmp_path, ".set"))
    write_events(path, (9.998, "n/a", "boundary"), (12.0, 1.0, "bad segment"))
    found, signal = cleaned(tmp_path, path)
    assert found.timeline.stretches == ((0, 1000, 0.0), (1000, 2900, 10.0))
    assert found.timeline.bad == ((1200, 1300),)
    assert found.quality["seconds_left_out"] == 2
    assert found.quality["note"] == (
        "cut at 2 boundaries; 1.0 s marked bad (bad segment); 1.0 s left out in stretches under 2 s"
    )
    assert np.abs(signal[900:1100]).max() < 8  # the step would be 15 of the clip


@pytest.mark.parametrize(("ending", "n"), [(".set", 2), (".fif", 1)])
def test_a_boundary_among_numbered_events_of_eeglab_is_a_number(tmp_path, ending, n):
    raw = raw_array(noise(14, 5000, 250.0), 250.0)
    raw.set_annotations(mne.Annotations([4.0, 9.999], [0, 0], ["12", "-99"]))
    found = opened(tmp_path, write(raw, bids_file(tmp_path, ending)))
    assert len(found.timeline.stretches) == n


def test_marks_of_brainvision_are_comments_or_new_segments(tmp_path):
    raw = raw_array(noise(14, 30 * 250, 250.0), 250.0)
    raw.set_annotations(mne.Annotations([15.0, 20.0], [4.0, 0.004], ["BAD_move", "boundary"]))
    path = write(raw, bids_file(tmp_path, ".vhdr"))
    markers = path.with_suffix(".vmrk")
    assert "Comment,BAD_move" in markers.read_text()
    segments = "Mk{}=New Segment,,{},1,0,20260101120000000000\n"
    with markers.open("a") as file:
        file.write(segments.format(1, 1) + segments.format(2, 2501))
    timeline = opened(tmp_path, path).timeline
    assert timeline.bad == ((3750, 4750),)
    assert timeline.stretches == ((0, 2500, 0.0), (2500, 5000, 10.0), (5000, 7500, 20.0))


def test_marks_in_events_tsv_are_read_as_people_write_them(tmp_path):
    path = fif(tmp_path)
    for text in (
        "Onset;Duration;Trial_Type\r\n5,5;2,0;BAD move\r\n",
        '"onset"\t"duration"\t"VALUE"\n"5.5"\t"2"\t"Bad"\n',
    ):
        beside(path, "events.tsv").write_text(text)
        assert opened(tmp_path, path).timeline.bad == ((1375, 1875),)
    beside(path, "events.tsv").write_bytes(b"onset\0duration")
    assert "events.tsv are not known" in opened(tmp_path, path).file.notes[0]


def test_the_scale_and_the_verdicts_are_not_taken_over_bad_segments(tmp_path):
    eeg = noise(14, 10_000, 250.0)
    plain = write(raw_array(eeg, 250.0), bids_file(tmp_path / "a", ".fif"))
    expected, _ = cleaned(tmp_path / "a", plain)
    eeg[:, 2500:8500] += 1e-3 * noise(14, 6000, 5.0, seed=3) / 1e-5
    eeg[3, 2500:8500] = 0
    path = write(raw_array(eeg, 250.0), bids_file(tmp_path / "b", ".fif"))
    write_events(path, (10, 24, "BAD_artefact"))
    found, _ = cleaned(tmp_path / "b", path)
    assert found.bad == {}
    np.testing.assert_allclose(found.scales, expected.scales, rtol=0.4)


def test_only_short_or_bad_stretches_are_no_recording(tmp_path):
    path = fif(tmp_path, seconds=4)
    write_events(path, *((t, 0, "boundary") for t in (1, 2, 3)))
    with pytest.raises(UnreadableRecording, match=r"1.00 s \(the longest of 4 stretches\)"):
        cleaned(tmp_path, path)
    write_events(path, (0, 4, "BAD"))
    with pytest.raises(UnreadableRecording, match="all of it is marked bad"):
        cleaned(tmp_path, path)


@pytest.mark.parametrize("fill", [0.0, 7e-6])
@pytest.mark.parametrize("ending", [".edf", ".fif"])
def test_a_pause_that_nothing_marks_is_no_signal(tmp_path, ending, fill):
    eeg = noise(14, 75 * 128, SFREQ) + 2e-4
    eeg[5] = 1e-5  # flat throughout
    filled = eeg.copy()
    # across the end of what is looked at at once
    filled[:, int(58 * SFREQ) : int(63 * SFREQ)] = fill
    root = tmp_path / "whole"
    found, signal = cleaned(root, write(raw_array(filled, SFREQ), bids_file(root, ending)))
    assert found.timeline.stretches == ((0, 5800, 0.0), (5800, 7000, 63.0))
    assert found.quality["seconds_left_out"] == 5
    assert "5.0 s in which no channel moves" in found.quality["note"]
    assert found.bad == {"C4": "flat"}
    others = np.arange(14) != 5
    for first, (a, b) in zip((0, 5800), ((0, 58), (63, 75)), strict=True):
        root = tmp_path / str(first)
        piece = raw_array(eeg[:, int(a * SFREQ) : int(b * SFREQ)], SFREQ)
        _, expected = cleaned(root, write(piece, bids_file(root, ending)))
        part = signal[first : first + 100 * (b - a)]
        assert correlation(part[:, others], expected[:, others]) > 0.9999
