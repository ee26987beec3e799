"""Physiology of the simulated signals: what shows where, when, and in whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.recordings.simulation import behaviour, noise, responses
from hbn_foundation.recordings.simulation.head import PLACES, make_head
from hbn_foundation.recordings.simulation.params import SimulationParams
from hbn_foundation.recordings.simulation.signals import simulate_eeg
from hbn_foundation.recordings.simulation.subjects import draw_subjects

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
PARAMS = SimulationParams(n_background_sources=60, bad_channel_share=0.0, rest_seconds=60)


@pytest.fixture(scope="module")
def subjects() -> pd.DataFrame:
    return draw_subjects(PARAMS)


@pytest.fixture(scope="module")
def task(subjects):
    """One task run without bad channels: subject, run, eeg."""
    params = PARAMS.model_copy(update={"trials_per_run": 30})
    subject = subjects.iloc[0].copy()
    subject["miss_rate"], subject["accuracy"] = 0.0, 1.0
    subject["theta_uv"], subject["background_uv"] = 1.0, 4.0  # so that 30 trials show the mean
    run = behaviour.draw_contrast_run(subject, 1, params, np.random.default_rng(5))
    eeg, *_ = simulate_eeg(subject, run, make_head(60), params, np.random.default_rng(6))
    return subject, run, eeg


def channel(name: str) -> int:
    return make_head(60).names.index(name)


def power(course: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(course * np.hanning(course.shape[-1]))) ** 2
    f = np.fft.rfftfreq(course.shape[-1], 0.01)
    return float(spectrum[..., (f >= low) & (f < high)].mean())


def test_components_are_strongest_where_they_belong():
    head = make_head(60)
    assert set(head.topographies) == set(PLACES)
    assert all(np.allclose(t[-1], 0) for t in head.topographies.values())
    strongest = {k: head.names[np.abs(t[:, 0]).argmax()] for k, t in head.topographies.items()}
    assert strongest["build_up"] in {"E62", "E61", "E78", "E67", "E77", "E72"}
    assert strongest["hand_left"] in {"E36", "E35", "E41", "E30", "E42"}
    assert strongest["flicker"] in {"E75", "E70", "E83", "E72", "E76", "E71"}
    assert np.sqrt((head.background**2).sum(axis=1).mean()) == pytest.approx(1, abs=1e-5)


def test_alpha_has_the_subjects_frequency_and_follows_the_eyes(subjects):
    subject = subjects.iloc[0].copy()
    subject["alpha_reactivity"] = 2.0
    run = behaviour.draw_rest(PARAMS, np.random.default_rng(2))
    eeg, *_ = simulate_eeg(subject, run, make_head(60), PARAMS, np.random.default_rng(3))
    occipital = eeg[channel("E75")]
    start, end = (round(t * 100) for t in run.eyes_closed[0])
    closed, opened = occipital[start + 100 : end], occipital[end + 100 : end + 1000]
    hz = subject["alpha_hz"]
    band = (hz - 1.5, hz + 1.5)
    assert power(closed, *band) > 2 * power(opened, *band)
    spectrum = np.abs(np.fft.rfft(closed * np.hanning(len(closed)), 4096)) ** 2
    f = np.fft.rfftfreq(4096, 0.01)
    inside = (f > 7) & (f < 14)
    peak = np.average(f[inside], weights=spectrum[inside])
    assert peak == pytest.approx(hz, abs=0.8)
    assert power(closed, *band) > 3 * power(eeg[channel("E11"), start + 100 : end], *band)


def test_build_up_ends_at_the_latent_time(task):
    _, run, eeg = task
    course = eeg[channel("E62")] - eeg[channel("E11")]
    pieces = []
    for trial in run.trials.itertuples():
        end = round((trial.onset + trial.latent_rt) * 100)
        pieces.append(course[end - 100 : end + 60])
    mean = np.convolve(np.mean(pieces, axis=0), np.ones(5) / 5, "same")
    assert abs(int(mean[5:-5].argmax()) + 5 - 100) <= 8
    assert mean[95:100].mean() - mean[30:60].mean() > 5
    assert mean[95:100].mean() - mean[130:150].mean() > 8


def test_build_up_is_lower_before_errors_and_misses():
    times = np.arange(0, 5, 0.01)
    base = pd.DataFrame({"onset": [0.0], "latent_rt": [1.5], "answered": [True], "correct": [True]})
    right = responses.build_up(base, times, None)
    wrong = responses.build_up(base.assign(correct=False), times, None)
    missed = responses.build_up(base.assign(answered=False, correct=False), times, None)
    assert right.max() > wrong.max() > missed.max() > 0
    assert times[right.argmax()] == pytest.approx(1.5, abs=0.02)
    assert right[times < 0.25].max() == 0


def test_flicker_follows_the_contrast_of_its_grating():
    times = np.arange(0, 6, 0.01)
    trial = pd.DataFrame({"onset": [2.0], "side": ["left"]})
    left = responses.contrast(trial, times, "left")
    right = responses.contrast(trial, times, "right")
    assert np.allclose(left + right, 1)
    assert left[times < 2].max() == 0.5 == right[times > 4.5].max()
    assert left.max() == pytest.approx(1, abs=0.01)
    assert times[left.argmax()] == pytest.approx(3.6, abs=0.02)
    course = responses.flicker(trial, times, 1.0, np.random.default_rng(0))
    at_peak, before = course[330:390], course[0:200]
    ratio_peak = power(at_peak, 19, 21) / power(at_peak, 24, 26)
    assert ratio_peak > 4 * power(before, 19, 21) / power(before, 24, 26)


def test_hand_rhythms_fall_opposite_to_the_hand():
    times = np.arange(0, 6, 0.01)
    trial = pd.DataFrame(
        {"onset": [1.0], "latent_rt": [1.5], "answered": [True], "response_side": ["right"]}
    )
    at_press = np.argmin(np.abs(times - 2.5))
    left = responses.hand_gain(trial, times, "left")
    right = responses.hand_gain(trial, times, "right")
    assert left[at_press] < 0.5 < 0.7 < right[at_press] < 1
    assert left[times > 3].max() > 1.3
    assert responses.readiness(trial, times, "right").min() == 0
    assert responses.readiness(trial, times, "left").min() < -4


def test_ideal_observer_finds_the_latent_time(task, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from ideal_observer import observe, spatially_filtered

    subject, run, eeg = task
    good = np.arange(129) != 128
    courses = spatially_filtered(eeg, make_head(60), good)
    onsets = run.trials["onset"].to_numpy()
    seen = observe(courses, onsets, subject["build_up_uv"], 100.0, (1.6, 0.4))
    assert np.corrcoef(seen, run.trials["latent_rt"])[0, 1] > 0.6


def test_traits_act_on_their_features(subjects):
    young = subjects["age"] < subjects["age"].median()
    assert subjects.loc[~young, "alpha_hz"].mean() > subjects.loc[young, "alpha_hz"].mean() + 0.6
    female = subjects["sex"] == "F"
    assert subjects.loc[female, "beta_uv"].mean() > 1.2 * subjects.loc[~female, "beta_uv"].mean()
    assert np.corrcoef(subjects["externalizing"], subjects["theta_uv"])[0, 1] > 0.6
    assert abs(np.corrcoef(subjects["rt_mean"], subjects["age"])[0, 1]) < 0.5
    without = draw_subjects(PARAMS.model_copy(update={"trait_strength": 0.0}))
    assert abs(np.corrcoef(without["externalizing"], without["theta_uv"])[0, 1]) < 0.5


def test_coloured_noise_has_unit_size_and_the_wanted_slope():
    f = noise.frequencies(20_000, 100.0)
    made = noise.coloured(np.random.default_rng(0), 8, 20_000, 100.0, noise.one_over_f(f, 1.5))
    assert made.dtype == np.float32
    assert made.std() == pytest.approx(1, abs=0.05)
    spectrum = (np.abs(np.fft.rfft(made)) ** 2).mean(axis=0)
    bins = np.fft.rfftfreq(20_000, 0.01)
    inside = (bins > 2) & (bins < 40)
    slope = np.polyfit(np.log(bins[inside]), np.log(spectrum[inside]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.1)
    assert spectrum[bins < 0.2].mean() < 0.01 * spectrum[(bins > 0.8) & (bins < 1.2)].mean()
