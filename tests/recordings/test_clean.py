from __future__ import annotations

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings import clean
from hbn_foundation.recordings.clean import clean_recording
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.read import UnreadableRecording
from recordings.eeg_files import (
    NAMES,
    bids_file,
    cut_to,
    noise,
    raw_array,
    row,
    write,
    write_sidecar,
)

SFREQ = 250.0
PARAMS = CleaningParams()


def cleaned(tmp_path, signal, params=PARAMS, sfreq=SFREQ, ending=".fif", **sidecar):
    """Write a signal as a file of a BIDS root, clean it, and read the result."""
    root = tmp_path / "bids"
    path = write(raw_array(signal, sfreq), bids_file(root, ending))
    if sidecar:
        write_sidecar(path, **sidecar)
    out = tmp_path / "clean.npy"
    return clean_recording(row(root, path), params, out), np.load(out)


@pytest.fixture
def signal():
    return noise(14, int(40 * SFREQ), SFREQ)


def test_the_clean_signal_has_unit_robust_scale_at_the_new_rate(tmp_path, signal):
    recording, stored = cleaned(tmp_path, signal)
    assert stored.dtype == np.float16
    assert stored.shape == (4000, 14) == (recording.n_samples, len(recording.names))
    deviation = 1.4826 * np.median(np.abs(stored - np.median(stored, axis=0)), axis=0)
    np.testing.assert_allclose(deviation, 1, atol=0.01)
    assert recording.bad == {}
    assert recording.names[-1] == "T7"


def test_microvolts_can_be_restored(tmp_path, signal):
    recording, stored = cleaned(tmp_path, signal)
    volts = stored.astype(float) * recording.scales
    band = np.fft.rfft(signal[0])
    frequencies = np.fft.rfftfreq(signal.shape[1], 1 / SFREQ)
    band[(frequencies < 1) | (frequencies > 45)] = 0
    expected = np.fft.irfft(band, signal.shape[1])
    kept = np.fft.rfft(volts[:, 0])
    kept[(np.fft.rfftfreq(4000, 0.01) < 1) | (np.fft.rfftfreq(4000, 0.01) > 45)] = 0
    assert np.fft.irfft(kept, 4000).std() == pytest.approx(expected.std(), rel=0.02)
    assert recording.quality["amplitude_uv"] == pytest.approx(np.median(recording.scales) * 1e6)


@pytest.mark.parametrize("sfreq", [250.0, 256.0, 499.7])
def test_chunks_give_what_one_pass_gives(tmp_path, sfreq, monkeypatch):
    signal = noise(14, int(95 * sfreq), sfreq)
    once, whole = cleaned(tmp_path / "a", signal, CleaningParams(chunk_seconds=1000), sfreq)
    monkeypatch.setattr(clean, "IN_MEMORY_BYTES", 1000)
    chunked, joined = cleaned(tmp_path / "b", signal, CleaningParams(chunk_seconds=10), sfreq)
    assert np.abs(whole.astype(float) - joined).max() < 0.02
    np.testing.assert_allclose(chunked.scales, once.scales, rtol=2e-3)
    assert chunked.bad == once.bad
    for name in ("amplitude_uv", "clipped_share"):
        assert chunked.quality[name] == pytest.approx(once.quality[name], rel=0.01, abs=1e-4)


def test_missing_samples_of_a_drifting_channel_do_not_ring(tmp_path, signal):
    signal[3] += np.linspace(0, 5e-3, signal.shape[1])
    _, expected = cleaned(tmp_path / "a", signal.copy())
    signal[3, 4000:4010] = np.nan
    _, stored = cleaned(tmp_path / "b", signal)
    assert np.corrcoef(stored[:, 3].astype(float), expected[:, 3].astype(float))[0, 1] > 0.998


def test_bad_channels_are_marked_with_their_reason(tmp_path, signal):
    rng = np.random.default_rng(1)
    signal[2] = 3e-5
    signal[4] = np.clip(signal[4], -8e-6, 8e-6)
    signal[5] *= 40
    signal[7] = 1e-5 * rng.standard_normal(signal.shape[1])
    signal[9, : signal.shape[1] // 10] = np.nan
    signal[11, int(10 * SFREQ) :] = 0.0
    recording, stored = cleaned(tmp_path, signal)
    assert recording.bad == {
        NAMES[2]: "flat",
        NAMES[4]: "clipping",
        NAMES[5]: "noisy",
        NAMES[7]: "uncorrelated",
        NAMES[9]: "missing samples",
        NAMES[11]: "flat",
    }
    assert stored.shape[1] == 14
    assert np.isfinite(stored).all()


@pytest.mark.parametrize(("factor", "bad"), [(0.03, {NAMES[3]: "weak"}), (0.15, {})])
def test_a_weak_channel_is_bad_and_one_beside_the_reference_is_not(tmp_path, signal, factor, bad):
    signal[3] *= factor
    assert cleaned(tmp_path, signal)[0].bad == bad


def test_a_flat_reference_is_no_failure(tmp_path, signal):
    signal[NAMES.index("Cz")] = 0.0
    recording, stored = cleaned(tmp_path, signal, EEGReference="Cz (vertex)")
    assert recording.bad == {"Cz": "reference"}
    assert not stored[:, NAMES.index("Cz")].any()


def test_factor_and_offset_of_the_input_change_the_scales_alone(tmp_path, signal):
    first, stored = cleaned(tmp_path / "a", signal)
    second, again = cleaned(tmp_path / "b", 3 * signal + 0.03)
    np.testing.assert_allclose(again[700:-700], stored[700:-700], atol=0.05)
    np.testing.assert_allclose(second.scales, 3 * first.scales, rtol=1e-3)


def test_extremes_are_clipped(tmp_path, signal):
    signal[0, 5000] += 0.01
    recording, stored = cleaned(tmp_path, signal, CleaningParams(clip=6))
    assert np.abs(stored).max() == 6
    assert 0 < recording.quality["clipped_share"] < 0.01


def test_line_noise_is_measured(tmp_path, signal):
    clean_one, _ = cleaned(tmp_path / "a", signal, PowerLineFrequency=50)
    mains = 2e-5 * np.sin(2 * np.pi * 50 * np.arange(signal.shape[1]) / SFREQ)
    noisy, _ = cleaned(tmp_path / "b", signal + mains, PowerLineFrequency=50)
    either, _ = cleaned(tmp_path / "c", signal + mains)
    other, _ = cleaned(tmp_path / "d", signal + mains, PowerLineFrequency=60)
    assert clean_one.quality["line_noise"] == pytest.approx(1, abs=0.3)
    assert noisy.quality["line_noise"] > 100
    assert either.quality["line_noise"] == pytest.approx(noisy.quality["line_noise"])
    assert other.quality["line_noise"] < 2
    below, _ = cleaned(tmp_path / "e", noise(14, 1000, 100.0), sfreq=100.0)
    assert np.isnan(below.quality["line_noise"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[:, :300], r"too short: 1\.20 s, at least 2 s"),
        (lambda x: np.full_like(x, np.nan), "all samples are NaN"),
        (np.zeros_like, r"no usable channel: all 14 are bad \(flat\)"),
    ],
)
def test_recordings_that_cannot_be_used(tmp_path, signal, change, reason):
    with pytest.raises(UnreadableRecording, match=reason):
        cleaned(tmp_path, change(signal))
    assert not list(tmp_path.glob(".clean*"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("volts", [1e12, 1e25, 3e38, 1e300])
def test_a_channel_beyond_any_voltage_is_bad_and_spoils_nothing(tmp_path, signal, volts):
    broken = signal.copy()
    broken[0] *= volts
    path = bids_file(tmp_path, ".fif")
    raw_array(broken, SFREQ).save(path, fmt="double", verbose="ERROR")
    recording = clean_recording(row(tmp_path, path), PARAMS, tmp_path / "clean.npy")
    assert recording.bad["Fp1"] == ("noisy" if volts < 1e15 else "missing samples")
    assert recording.quality["amplitude_uv"] == pytest.approx(10, rel=0.5)


def test_a_file_that_breaks_off_inside_has_a_reason(tmp_path, signal):
    path = write(raw_array(signal, SFREQ), bids_file(tmp_path, ".fif"))
    cut_to(path, path.stat().st_size // 2)
    with pytest.raises(UnreadableRecording, match="truncated or damaged: cannot be read"):
        clean_recording(row(tmp_path, path), PARAMS, tmp_path / "clean.npy")


def test_a_full_disk_names_the_folder_and_the_need(tmp_path, signal):
    resource = pytest.importorskip("resource")
    root = tmp_path / "bids"
    path = write(raw_array(signal, SFREQ), bids_file(root, ".fif"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"disk full, 336,000 bytes needed"):
            clean_recording(row(root, path), PARAMS, tmp_path / "clean.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_real_recordings(tmp_path, eegmat_root):
    table = find_recordings(eegmat_root)
    one = table.iloc[1].to_dict()
    recording = clean_recording(one, PARAMS, tmp_path / "clean.npy")
    assert len(recording.names) == 19
    assert {"T7", "T8", "P7", "P8"} <= set(recording.names)
    # 182 s by the header; the last two are padding
    assert recording.n_samples == 18003
    assert recording.quality["seconds_left_out"] == pytest.approx(1.98, abs=0.01)
    assert 2 < recording.quality["amplitude_uv"] < 50
