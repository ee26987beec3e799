"""Effects of the contrast change detection task on the EEG: time courses (T,) of its components.

All of them end at the latent response time, none at the press itself: no electrode shows the delay
between the two, so the latent time is the ceiling of every prediction.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation.behaviour import CHANGE_SECONDS, TARGET_SECONDS, each

BUILD_UP_START = 0.25  # s after the target
BUILD_UP_FALL = 0.12  # time constant of its fall in s
FLICKER_HZ = {"left": 20.0, "right": 25.0}  # the left- and right-tilted gratings of HBN
ERROR_GAIN, MISS_GAIN = 0.7, 0.35
FEEDBACK_UV, READINESS_UV = 6.0, 5.0


def build_up(
    trials: pd.DataFrame, times: np.ndarray, rng: np.random.Generator | None
) -> np.ndarray:
    """Return the centro-parietal build-up, peak 1 on average: a ramp from target to decision.

    Its height varies by 20 % from trial to trial, is lower before wrong answers, and stays low
    and without an end where no answer comes. Without `rng` every height is 1.
    """
    course = np.zeros_like(times)
    for trial in each(trials):
        height = np.exp(0.2 * rng.standard_normal()) if rng else 1.0
        stop = trial.latent_rt
        if not trial.answered:
            height, stop = height * MISS_GAIN, TARGET_SECONDS
        elif not trial.correct:
            height *= ERROR_GAIN
        t = times - trial.onset
        start = min(BUILD_UP_START, 0.5 * stop)
        rising = (t >= start) & (t < stop)
        falling = (t >= stop) & (t < stop + 8 * BUILD_UP_FALL)
        course[rising] += height * ((t[rising] - start) / (stop - start)) ** 1.3
        course[falling] += height * np.exp(-(t[falling] - stop) / BUILD_UP_FALL)
    return course


def contrast(trials: pd.DataFrame, times: np.ndarray, side: str) -> np.ndarray:
    """Return the contrast of the grating tilted to `side`: .5, and to 1 or 0 in targets."""
    course = np.full_like(times, 0.5)
    for trial in each(trials):
        t = times - trial.onset
        inside = (t >= 0) & (t < TARGET_SECONDS)
        back = (TARGET_SECONDS - t) / (TARGET_SECONDS - CHANGE_SECONDS)
        change = np.where(t < CHANGE_SECONDS, t / CHANGE_SECONDS, back)
        course[inside] += (0.5 if trial.side == side else -0.5) * change[inside]
    return course


def flicker(
    trials: pd.DataFrame, times: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the response to both gratings in µV: sines whose size follows the contrasts."""
    total = np.zeros_like(times)
    for side, hz in FLICKER_HZ.items():
        size = np.clip(contrast(trials, times, side), 0.02, 1.0) ** 0.8 * np.sqrt(2.0) * 1.7
        total += strength * size * np.sin(2 * np.pi * (hz * times + rng.random()))
    return total


def hand_gain(trials: pd.DataFrame, times: np.ndarray, hemisphere: str) -> np.ndarray:
    """Return the factor on the µ and beta rhythm of one hand area.

    Suppressed while a press is prepared, more so opposite to the hand; a rebound follows.
    """
    gain = np.ones_like(times)
    for trial in each(trials[trials["answered"]]):
        t = times - trial.onset - trial.latent_rt
        opposite = trial.response_side != hemisphere
        depth, rebound = (0.65, 0.6) if opposite else (0.25, 0.2)
        near = (t > -1.5) & (t < 2.0)
        prepared = 1 / (1 + np.exp(-(t[near] + 0.45) / 0.12)) / (1 + np.exp((t[near] - 0.2) / 0.06))
        after = np.exp(-0.5 * ((t[near] - 0.65) / 0.2) ** 2)
        gain[near] *= (1 - depth * prepared) * (1 + rebound * after)
    return gain


def readiness(trials: pd.DataFrame, times: np.ndarray, hemisphere: str) -> np.ndarray:
    """Return the slow negativity in µV that grows in one hand area before the other hand moves."""
    course = np.zeros_like(times)
    opposite = trials["answered"] & (trials["response_side"] != hemisphere)
    for trial in each(trials[opposite]):
        t = times - trial.onset - trial.latent_rt
        near = (t > -0.5) & (t < 0.6)
        ramp = np.where(t[near] < 0, (t[near] + 0.5) / 0.5, np.exp(-t[near] / 0.1))
        course[near] -= READINESS_UV * ramp
    return course


def feedback(trials: pd.DataFrame, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the response to the face after each target in µV: a positivity, larger for errors."""
    course = np.zeros_like(times)
    for trial in each(trials):
        size = FEEDBACK_UV * (0.8 if trial.correct else 1.3) * np.exp(0.3 * rng.standard_normal())
        t = times - trial.onset - TARGET_SECONDS - 0.35
        course += size * np.exp(-0.5 * (t / 0.09) ** 2)
    return course
