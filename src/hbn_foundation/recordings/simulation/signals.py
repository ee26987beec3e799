"""The EEG of one simulated recording: sources times their topographies, in microvolts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation import artifacts, responses
from hbn_foundation.recordings.simulation.behaviour import Run
from hbn_foundation.recordings.simulation.head import Head
from hbn_foundation.recordings.simulation.noise import (
    bump,
    coloured,
    filtered,
    frequencies,
    one_over_f,
    smooth,
)
from hbn_foundation.recordings.simulation.params import SimulationParams

RUN_SPREAD = 0.12  # log-normal change of every rhythm from run to run
TASK_ALPHA, TASK_THETA, TASK_BETA = -0.15, 0.12, 0.05  # log change by doing a task, eyes open
STATE_SECONDS = 0.5  # how fast alpha follows the eyes

Rhythm = Callable[[str, float, float], np.ndarray]


def simulate_eeg(
    subject: pd.Series,
    run: Run,
    head: Head,
    params: SimulationParams,
    rng: np.random.Generator,
) -> tuple[np.ndarray, artifacts.BadChannels]:
    """Simulate one recording.

    Parameters
    ----------
    subject
        A row of `draw_subjects`.
    run
        Its behaviour; with trials it is a task run, without a rest run.
    head
        Topographies of the sources.
    params, rng
        Strengths, and the random numbers of this recording.

    Returns
    -------
    eeg : (129, n_samples) float32, µV, referred to Cz (so the last row is zero)
    bad : the channels that were spoiled
    """
    sfreq = float(params.sfreq)
    n_samples = int(run.seconds * params.sfreq)
    times = np.arange(n_samples) / sfreq
    f = frequencies(n_samples, sfreq)
    noise = coloured(
        rng, head.background.shape[1], n_samples, sfreq, one_over_f(f, subject["slope"])
    )
    eeg = head.background @ (noise * np.float32(_varied(subject["background_uv"], rng)))
    parts = _rhythms(subject, run, times, head, params, rng)
    if len(run.trials):
        parts += _task(subject, run, times, head, params, rng)
    parts += _eyes_and_muscles(subject, run, times, head, sfreq, rng)
    shapes = np.hstack([shape for shape, _ in parts])
    eeg += shapes @ np.vstack([course for _, course in parts]).astype(np.float32)
    sensor = rng.standard_normal(eeg.shape, dtype=np.float32) * np.float32(artifacts.SENSOR_UV)
    line = artifacts.mains(len(eeg), times, sfreq, rng) * np.float32(subject["line_uv"])
    eeg += sensor + line
    bad = artifacts.draw_bad_channels(len(eeg), params.bad_channel_share, rng)
    artifacts.spoil(eeg, bad, sfreq, rng)
    eeg[-1] = 0.0
    return eeg, bad


def _rhythms(
    subject: pd.Series,
    run: Run,
    times: np.ndarray,
    head: Head,
    params: SimulationParams,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Alpha, theta, beta and the rhythms of the hand areas, changed by eyes and task."""
    sfreq, n = float(params.sfreq), len(times)
    f = frequencies(n, sfreq)
    doing = params.task_strength * float(len(run.trials) > 0)

    def rhythm(name: str, hz: float, width: float) -> np.ndarray:
        k = head.topographies[name].shape[1]
        together = coloured(rng, 1, n, sfreq, bump(f, hz, width))
        return 0.75 * together + 0.66 * coloured(rng, k, n, sfreq, bump(f, hz, width))

    def size(column: str, log_change: float = 0.0) -> float:
        return _varied(subject[column], rng) * np.exp(doing * log_change)

    closed = np.zeros(n, np.float32)
    for start, end in run.eyes_closed:
        closed[(times >= start + 0.4) & (times < end + 0.4)] = 1.0
    eyes = 1.0 + (subject["alpha_reactivity"] - 1.0) * smooth(closed, sfreq, STATE_SECONDS)
    alpha = size("alpha_uv", TASK_ALPHA) * 0.6 * eyes
    hz, tilt = subject["alpha_hz"], np.sqrt(subject["alpha_asymmetry"])
    beta, mu = size("beta_uv", TASK_BETA), size("mu_uv")
    parts = [
        ("alpha", alpha * rhythm("alpha", hz, 0.7)),
        ("alpha_left", 0.4 * alpha / tilt * rhythm("alpha_left", hz, 0.7)),
        ("alpha_right", 0.4 * alpha * tilt * rhythm("alpha_right", hz, 0.7)),
        ("theta", size("theta_uv", TASK_THETA) * rhythm("theta", 5.6, 0.8)),
        ("beta", beta * rhythm("beta", 18.0, 3.0)),
    ]
    for side in ("left", "right"):
        name = f"hand_{side}"
        both = mu * rhythm(name, hz + 0.8, 0.8) + 0.8 * beta * rhythm(name, 20.0, 2.5)
        gain = responses.hand_gain(run.trials, times, side) if len(run.trials) else 1.0
        parts.append((name, gain * both))
    return [(head.topographies[name], course) for name, course in parts]


def _task(
    subject: pd.Series,
    run: Run,
    times: np.ndarray,
    head: Head,
    params: SimulationParams,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Build-up, readiness, flicker and feedback, passed through the recording's filter."""
    strength = _varied(subject["flicker_uv"], rng) * params.task_strength
    courses = {
        "build_up": subject["build_up_uv"] * responses.build_up(run.trials, times, rng),
        "feedback": responses.feedback(run.trials, times, rng),
        "hand_left": responses.readiness(run.trials, times, "left"),
        "hand_right": responses.readiness(run.trials, times, "right"),
        "flicker": responses.flicker(run.trials, times, strength, rng),
    }
    through = filtered(np.vstack(list(courses.values())), float(params.sfreq))
    return [
        (head.topographies[name], course[None])
        for name, course in zip(courses, through, strict=True)
    ]


def _eyes_and_muscles(
    subject: pd.Series,
    run: Run,
    times: np.ndarray,
    head: Head,
    sfreq: float,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    eyes = head.topographies["eye_left"] + head.topographies["eye_right"]
    eyes = eyes / np.abs(eyes).max()
    course = artifacts.blinks(run, times, subject["blinks_per_minute"], rng)[None]
    shape = head.topographies["muscle"]
    tension = artifacts.muscle(shape.shape[1], len(times), sfreq, rng)
    return [
        (eyes, filtered(course * subject["blink_uv"], sfreq)),
        (shape, tension * _varied(subject["muscle_uv"], rng)),
    ]


def _varied(value: float, rng: np.random.Generator) -> float:
    return float(value * np.exp(RUN_SPREAD * rng.standard_normal()))
