from __future__ import annotations

from itertools import pairwise

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.recordings.resampling import MAX_DRIFT, Resampler, _lengths, extend
from recordings.eeg_files import noise


def resample(signal, sfreq, chunk_seconds=1e9, sfreq_out=100.0, band=(0.5, 50.0)):
    resampler = Resampler(sfreq, sfreq_out, *band, signal.shape[1], chunk_seconds)
    parts = []
    for chunk in resampler.chunks():
        block = signal[:, max(chunk.start, 0) : chunk.stop].astype(np.float32)
        parts.append(resampler.apply(chunk, block))
    return np.concatenate(parts, axis=1), resampler


@pytest.mark.parametrize("sfreq", [100.0, 128.0, 250.0, 256.0, 499.7, 500.0, 512.5, 1000 / 3, 80.0])
def test_sines_come_out_on_the_new_grid_whatever_the_rate(sfreq):
    n = int(90.3 * sfreq)
    wave = np.sin(2 * np.pi * 10 * np.arange(n) / sfreq)[None]
    resampled, _ = resample(wave, sfreq, chunk_seconds=13)
    expected = np.sin(2 * np.pi * 10 * np.arange(resampled.shape[1]) / 100)
    assert abs(resampled.shape[1] - 9030) <= 1
    np.testing.assert_allclose(resampled[0, 400:-400], expected[400:-400], atol=0.006)


@pytest.mark.parametrize(("sfreq", "h_freq", "width"), [(500.0, 50.0, 2.0), (250.0, 40.0, 10.0)])
def test_chunks_join_to_what_mne_makes_by_filtering_then_resampling(sfreq, h_freq, width):
    signal = noise(3, int(60 * sfreq), sfreq) * 1e5
    mine, resampler = resample(signal, sfreq, chunk_seconds=10, band=(0.5, h_freq))
    theirs = mne.filter.filter_data(
        signal, sfreq, 0.5, resampler.h_freq, l_trans_bandwidth=0.5, h_trans_bandwidth=width,
        verbose="ERROR",
    )  # fmt: skip
    theirs = mne.filter.resample(theirs, down=sfreq / 100, verbose="ERROR")
    assert mine.shape == theirs.shape
    middle = slice(500, -500)
    assert np.abs(mine[:, middle] - theirs[:, middle]).max() < 0.01 * theirs.std()


@pytest.mark.parametrize(
    ("frequency", "gain"), [(0.05, 0), (1.0, 1), (10.0, 1), (47.0, 1), (50.0, 0), (60, 0), (99, 0)]
)
def test_pass_band(frequency, gain):
    wave = np.sin(2 * np.pi * frequency * np.arange(60_000) / 500)[None]
    resampled, _ = resample(wave, 500.0)
    amplitude = resampled[0, 1000:-1000].std() * np.sqrt(2)
    assert amplitude == pytest.approx(gain, abs=0.03)


def test_the_upper_edge_is_drawn_in_to_what_there_is():
    assert resample(noise(1, 2000, 100), 100.0)[1].h_freq == 48.0
    assert resample(noise(1, 2000, 64), 64.0)[1].h_freq == 30.0
    assert resample(noise(1, 2000, 500), 500.0, band=(0.5, 40.0))[1].h_freq == 40.0


@given(
    sfreq=st.floats(20, 5000),
    seconds=st.floats(1, 200),
    chunk=st.sampled_from([10.0, 33.3, 60.0]),
)
@settings(max_examples=60)
def test_chunks_cover_the_output_exactly(sfreq, seconds, chunk):
    n = max(int(sfreq * seconds), 2)
    resampler = Resampler(sfreq, 100.0, 0.5, 50.0, n, chunk)
    chunks = list(resampler.chunks())
    assert chunks[0].first == 0
    assert chunks[-1].last == resampler.n_out
    assert all(a.last == b.first for a, b in pairwise(chunks))
    assert all(p.start < p.first * sfreq / 100 for p in chunks)
    assert abs(resampler.n_out / 100 - n / sfreq) <= 1 / 100 + 1 / sfreq


@given(n=st.integers(400, 60_000), sfreq=st.floats(20, 3000))
@settings(max_examples=60)
def test_lengths_hold_the_ratio(n, sfreq):
    n_fft, m = _lengths(n, sfreq / 100)
    assert n_fft >= n
    # A short recording that is made longer has few lengths to choose from: its drift is a share
    # of a sample of the file, not of the longer one.
    assert abs(m - n_fft * 100 / sfreq) < 10 * MAX_DRIFT * max(1, 100 / sfreq)


def test_extending_reflects_about_the_ends():
    samples = np.array([[1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(extend(samples, 3, 1), [[-2.0, -2.0, 0.0, 1.0, 2.0, 4.0, 6.0]])
