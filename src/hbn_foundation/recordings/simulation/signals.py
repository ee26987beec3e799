"""The EEG of one simulated recording: sources times their topographies, in microvolts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation import noise, responses
from hbn_foundation.recordings.simulation.behaviour import Run
from hbn_foundation.recordings.simulation.head import Head
from hbn_foundation.recordings.simulation.params import SimulationParams

RUN_SPREAD = 0.12  # log-normal change of every rhythm from run to run
TASK_ALPHA, TASK_THETA, TASK_BETA = -0.15, 0.12, 0.05  # log change by doing a task, eyes open
STATE_SECONDS = 0.5  # time constant of alpha after the eyes open or close
MAINS_HZ = 60.0
SENSOR_UV = 1.0
BLINK_SECONDS = 0.09  # standard deviation of its bell shape
CLOSED_BLINK_SHARE = 0.1


@dataclass(frozen=True)
class Simulation:
    """One recording to simulate: its subject, behaviour, head, strengths and random numbers."""

    subject: pd.Series
    run: Run
    head: Head
    sfreq: float  # Hz
    rng: np.random.Generator

    @property
    def times(self) -> np.ndarray:
        """(T,) seconds."""
        return np.arange(int(self.run.seconds * self.sfreq)) / self.sfreq

    def noise(self, n_sources: int, amplitude: np.ndarray) -> np.ndarray:
        """(n_sources, T) noise of rms 1."""
        return noise.coloured(self.rng, n_sources, len(self.times), self.sfreq, amplitude)

    def varied(self, column: str) -> float:
        """Draw a feature of the subject for this recording, 12 % around the subject's own."""
        return float(self.subject[column] * np.exp(RUN_SPREAD * self.rng.standard_normal()))


Parts = list[tuple[np.ndarray, np.ndarray]]  # topographies (C, k) and their courses (k, T)


def simulate_eeg(
    subject: pd.Series, run: Run, head: Head, params: SimulationParams, rng: np.random.Generator
) -> tuple[np.ndarray, list[int], list[int]]:
    """Simulate one recording of a subject, a row of `draw_subjects`.

    A run with trials is a task run, one without is rest.

    Returns
    -------
    eeg : (129, n_samples) float32, µV, referred to Cz (so the last row is zero)
    flat, noisy : numbers of the bad channels
    """
    sim = Simulation(subject, run, head, float(params.sfreq), rng)
    f = noise.frequencies(len(sim.times), sim.sfreq)
    courses = sim.noise(head.background.shape[1], noise.one_over_f(f, subject["slope"]))
    eeg = head.background @ (courses * np.float32(sim.varied("background_uv")))
    parts = _rhythms(sim, f)
    if len(run.trials):
        parts += _task(sim)
    parts += eyes_and_muscles(sim, f)
    shapes = np.hstack([shape for shape, _ in parts])
    eeg += shapes @ np.vstack([course for _, course in parts]).astype(np.float32)
    sensor = rng.standard_normal(eeg.shape, dtype=np.float32) * np.float32(SENSOR_UV)
    eeg += sensor + _mains(sim, len(eeg)) * np.float32(subject["line_uv"])
    flat, noisy = _spoil(eeg, sim, f, params.bad_channel_share)
    eeg[-1] = 0.0
    return eeg, flat, noisy


def _rhythms(sim: Simulation, f: np.ndarray) -> Parts:
    """Alpha, theta, beta and the rhythms of the hand areas, changed by eyes and task."""
    subject, run, times = sim.subject, sim.run, sim.times
    topographies = sim.head.topographies
    doing = float(len(run.trials) > 0)

    def rhythm(name: str, hz: float, width: float) -> np.ndarray:
        spectrum = noise.bump(f, hz, width)
        together = sim.noise(1, spectrum)
        return 0.75 * together + 0.66 * sim.noise(topographies[name].shape[1], spectrum)

    def size(column: str, log_change: float = 0.0) -> float:
        return sim.varied(column) * np.exp(doing * log_change)

    alpha = size("alpha_uv", TASK_ALPHA) * 0.6 * _eyes_closed(sim)
    hz, tilt = subject["alpha_hz"], np.sqrt(subject["alpha_asymmetry"])
    beta, mu = size("beta_uv", TASK_BETA), size("mu_uv")
    courses = {
        "alpha": alpha * rhythm("alpha", hz, 0.7),
        "alpha_left": 0.4 * alpha / tilt * rhythm("alpha_left", hz, 0.7),
        "alpha_right": 0.4 * alpha * tilt * rhythm("alpha_right", hz, 0.7),
        "theta": size("theta_uv", TASK_THETA) * rhythm("theta", 5.6, 0.8),
        "beta": beta * rhythm("beta", 18.0, 3.0),
    }
    for side in ("left", "right"):
        name = f"hand_{side}"
        both = mu * rhythm(name, hz + 0.8, 0.8) + 0.8 * beta * rhythm(name, 20.0, 2.5)
        gain = responses.hand_gain(run.trials, times, side) if len(run.trials) else 1.0
        courses[name] = gain * both
    return [(topographies[name], course) for name, course in courses.items()]


def _eyes_closed(sim: Simulation) -> np.ndarray:
    """(T,) factor on alpha: 1 with eyes open, the subject's reactivity with eyes closed."""
    from scipy.ndimage import gaussian_filter1d

    closed = np.zeros(len(sim.times), np.float32)
    for start, end in sim.run.eyes_closed:
        closed[(sim.times >= start + 0.4) & (sim.times < end + 0.4)] = 1.0
    smooth = gaussian_filter1d(closed, STATE_SECONDS * sim.sfreq, mode="nearest")
    return 1.0 + (sim.subject["alpha_reactivity"] - 1.0) * smooth


def _task(sim: Simulation) -> Parts:
    """Build-up, readiness, flicker and feedback, passed through the recording's filter."""
    trials, times, rng = sim.run.trials, sim.times, sim.rng
    strength = sim.varied("flicker_uv")
    courses = {
        "build_up": sim.subject["build_up_uv"] * responses.build_up(trials, times, rng),
        "feedback": responses.feedback(trials, times, rng),
        "hand_left": responses.readiness(trials, times, "left"),
        "hand_right": responses.readiness(trials, times, "right"),
        "flicker": responses.flicker(trials, times, strength, rng),
    }
    through = noise.filtered(np.vstack(list(courses.values())), sim.sfreq)
    return [
        (sim.head.topographies[name], course[None])
        for name, course in zip(courses, through, strict=True)
    ]


def eyes_and_muscles(sim: Simulation, f: np.ndarray) -> Parts:
    """Blinks, and muscle tension above 20 Hz that comes and goes."""
    topographies = sim.head.topographies
    eyes = topographies["eye_left"] + topographies["eye_right"]
    blinks = noise.filtered(_blinks(sim)[None] * sim.subject["blink_uv"], sim.sfreq)
    muscle = topographies["muscle"]
    high = noise.band_limit(f) / (1.0 + (20.0 / np.maximum(f, 0.1)) ** 4)
    fast = sim.noise(muscle.shape[1], high)
    slow = sim.noise(muscle.shape[1], (f < 0.3) * (f > 0) * 1.0)
    tension = fast * np.exp(0.7 * slow)
    return [
        (eyes / np.abs(eyes).max(), blinks),
        (muscle, tension * sim.varied("muscle_uv")),
    ]


def _blinks(sim: Simulation) -> np.ndarray:
    """(T,) blinks of mean height 1, at least half a second apart, few with eyes closed."""
    run, times, rng = sim.run, sim.times, sim.rng
    per_minute = sim.subject["blinks_per_minute"]
    waits = 0.5 + rng.exponential(60.0 / per_minute, 20 + int(run.seconds * per_minute / 20))
    course = np.zeros_like(times)
    for time in np.cumsum(waits):
        closed = any(start <= time < end for start, end in run.eyes_closed)
        height, width = np.exp(0.25 * rng.standard_normal()), rng.uniform(0.8, 1.3)
        if time > run.seconds or (closed and rng.random() > CLOSED_BLINK_SHARE):
            continue
        near = np.abs(times - time) < 1.0
        t = (times[near] - time) / (BLINK_SECONDS * width)
        course[near] += height * (np.exp(-0.5 * t**2) - 0.12 * np.exp(-0.5 * (t - 3.5) ** 2 / 4))
    return course


def _mains(sim: Simulation, n_channels: int) -> np.ndarray:
    """(n_channels, T) residue of the mains, rms about 1.

    60 Hz lies above half of 100 Hz. The low-pass before downsampling does not remove it completely,
    and the rest is folded to 100 - 60 = 40 Hz.
    """
    rng, times = sim.rng, sim.times
    folded = abs(MAINS_HZ - sim.sfreq * round(MAINS_HZ / sim.sfreq))
    size = np.exp(0.6 * rng.standard_normal(n_channels))
    phase = 2 * np.pi * rng.random() + 0.3 * rng.standard_normal(n_channels)
    waves = np.sin(2 * np.pi * folded * times), np.cos(2 * np.pi * folded * times)
    parts = np.column_stack([np.cos(phase), np.sin(phase)]) * (np.sqrt(2.0) * size)[:, None]
    return (parts @ np.vstack(waves)).astype(np.float32)


def _spoil(
    eeg: np.ndarray, sim: Simulation, f: np.ndarray, share: float
) -> tuple[list[int], list[int]]:
    """Make one to four channels of (channels, samples) flat or noisy in a share of recordings."""
    rng = sim.rng
    if rng.random() >= share:
        return [], []
    chosen = rng.choice(len(eeg) - 1, rng.integers(1, 5), replace=False)
    is_flat = rng.random(len(chosen)) < 0.4
    flat, noisy = sorted(chosen[is_flat].tolist()), sorted(chosen[~is_flat].tolist())
    eeg[flat] = 0.0
    if noisy:
        added = sim.noise(len(noisy), noise.band_limit(f) * (1.0 + 3.0 / np.maximum(f, 0.5)))
        eeg[noisy] += added * rng.uniform(60, 150, (len(noisy), 1)).astype(np.float32)
    return flat, noisy
