"""The ideal observer: how well response times can be read from the simulated EEG at best.

It knows what no model is told: topographies, time courses, the subject's build-up, and which
channels are bad. Of each trial it takes the model's window, .5 to 2.5 s after the target, filters
it in space (LCMV, van Veen et al. 1997) for the build-up and both hand areas, and weighs every
possible end of the build-up by its likelihood in Gaussian noise of the recording's own
covariance and by how frequent it is. Its answer is the posterior mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation import responses
from hbn_foundation.recordings.simulation.artifacts import BadChannels
from hbn_foundation.recordings.simulation.head import Head
from hbn_foundation.recordings.simulation.noise import filtered

WINDOW = (0.5, 2.5)
SPACING = 0.03
BIN_SECONDS = 0.04
SOURCES = ("build_up", "hand_left", "hand_right")
HEIGHT_MEAN, HEIGHT_SD = 0.95, 0.25


def observe(
    eeg: np.ndarray,
    trials: pd.DataFrame,
    build_up_uv: float,
    head: Head,
    bad: BadChannels,
    sfreq: float,
    prior: tuple[float, float],
) -> np.ndarray:
    """Return the observer's response time for each trial in s.

    Parameters
    ----------
    eeg
        (129, n_samples) recording in µV.
    trials
        Its targets; only `onset` is used.
    build_up_uv
        The subject's true build-up.
    prior
        Mean and standard deviation of the latent times of all subjects in s.
    """
    courses = _spatially_filtered(eeg, head, bad)
    first, length = round(WINDOW[0] * sfreq), round((WINDOW[1] - WINDOW[0]) * sfreq)
    step = max(1, round(BIN_SECONDS * sfreq))
    starts = np.arange(0, courses.shape[1] - length, max(1, length // 28))
    pieces = np.array([_binned(courses[:, i : i + length], step).ravel() for i in starts])
    noise = np.cov(pieces.T)
    noise += 0.05 * np.trace(noise) / len(noise) * np.eye(len(noise))
    ends, shapes = _templates(sfreq, step)
    scaled = shapes * np.array([build_up_uv, 1.0, 1.0])[:, None]
    scaled = scaled.reshape(2, len(ends), -1)
    weighted = scaled @ np.linalg.inv(noise)
    energy = np.sum(weighted * scaled, axis=-1)
    log_prior = -0.5 * ((ends - prior[0]) / prior[1]) ** 2
    guesses = np.full(len(trials), prior[0])
    for number, onset in enumerate(trials["onset"].to_numpy()):
        start = round(onset * sfreq) + first
        if start + length <= courses.shape[1]:
            seen = _binned(courses[:, start : start + length], step).ravel()
            guesses[number] = _posterior_mean(weighted @ seen, energy, ends, log_prior)
    return guesses


def _posterior_mean(
    match: np.ndarray, energy: np.ndarray, ends: np.ndarray, log_prior: np.ndarray
) -> float:
    """Average over the height of the build-up (Gaussian), the hand, and the end."""
    precision = 1.0 / HEIGHT_SD**2
    log = 0.5 * (match + HEIGHT_MEAN * precision) ** 2 / (energy + precision)
    log = log - 0.5 * np.log(1.0 + energy / precision)
    both = np.logaddexp(log[0], log[1]) + log_prior
    weight = np.exp(both - both.max())
    return float(weight @ ends / weight.sum())


def _spatially_filtered(eeg: np.ndarray, head: Head, bad: BadChannels) -> np.ndarray:
    good = np.setdiff1d(np.arange(len(eeg) - 1), [*bad.flat, *bad.noisy])
    data = eeg[good].astype(float)
    shapes = np.hstack([head.topographies[name][good] for name in SOURCES]).astype(float)
    data, shapes = data - data.mean(axis=0), shapes - shapes.mean(axis=0)
    solved = np.linalg.solve(np.cov(data) + 0.3 * np.eye(len(good)), shapes)
    return np.linalg.solve(shapes.T @ solved, solved.T) @ data


@lru_cache(maxsize=2)
def _templates(sfreq: float, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ends of the build-up (m,) and window courses (2 hands, m, 3 sources, bins)."""
    ends = np.arange(0.35, 2.35 + SPACING / 2, SPACING)
    times = np.arange(round(10 * sfreq)) / sfreq - 4.0
    inside = (times >= WINDOW[0] - 0.5 / sfreq) & (times < WINDOW[1] - 0.5 / sfreq)
    hands = [
        np.stack([_template(e, hand, times, sfreq, inside) for e in ends])
        for hand in ("left", "right")
    ]
    return ends, _binned(np.stack(hands), step)


def _template(
    end: float, hand: str, times: np.ndarray, sfreq: float, inside: np.ndarray
) -> np.ndarray:
    trial = pd.DataFrame(
        {"onset": [0.0], "latent_rt": [end], "answered": [True], "correct": [True]}
    ).assign(response_side=hand)
    courses = (
        responses.build_up(trial, times, None),
        responses.readiness(trial, times, "left"),
        responses.readiness(trial, times, "right"),
    )
    return filtered(np.vstack(courses), sfreq)[:, inside]


def _binned(courses: np.ndarray, step: int) -> np.ndarray:
    bins = courses.shape[-1] // step
    return courses[..., : bins * step].reshape(*courses.shape[:-1], bins, step).mean(axis=-1)
