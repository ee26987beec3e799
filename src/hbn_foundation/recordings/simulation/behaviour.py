"""Trials and events of the simulated runs, in HBN's vocabulary.

The rates are those of the 2,483 contrastChangeDetection runs of releases 1-5 (see
``docs/simulation.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation.params import SimulationParams

EVENT_RATE = 500.0  # HBN's `sample` column counts at 500 Hz, also beside 100 Hz files
FOREPERIODS = (2.8, 4.4, 6.0)
CHANGE_SECONDS, TARGET_SECONDS = 1.6, 2.4
LEAD_SECONDS, TAIL_SECONDS = 4.0, 3.0
SHARE_FURTHER_PRESSES, SHARE_EARLY_PRESSES, SHARE_NO_TARGET = 0.067, 0.137, 0.0044
SHARE_VIDEO, SHARE_BOUNDARY, SHARE_ABORTED = 0.227, 0.083, 0.012
RT_MEAN, RT_SD = 1.6, 0.4  # s, pooled over subjects
VISIBLE_SHARE = 0.8  # of the within-subject variance of response times: what the EEG shows
GUESS_SHARE, GUESS_RANGE = 0.02, (0.2, 1.0)
LATENT_RANGE, RT_RANGE = (0.35, 2.35), (0.2, 2.39)
CODES = {
    "left_target": "8",
    "right_target": "9",
    "left_buttonPress": "12",
    "right_buttonPress": "13",
    "contrastTrial_start": "5",
    "contrastChangeB1_start": "94",
    "contrastChangeB2_start": "95",
    "contrastChangeB3_start": "96",
    "resting_start": "90",
    "instructed_toOpenEyes": "20",
    "instructed_toCloseEyes": "30",
    "video_start": "82",
    "video_stop": "102",
}

Event = tuple[float, str, str]


@dataclass(frozen=True)
class Run:
    """One recording's behaviour: length in whole seconds, events.tsv, trials, eyes-closed times."""

    seconds: int
    events: pd.DataFrame
    trials: pd.DataFrame
    eyes_closed: tuple[tuple[float, float], ...] = ()


def each(trials: pd.DataFrame) -> Iterator[Any]:
    """Iterate over trials as named tuples."""
    return trials.itertuples()


def draw_rest(params: SimulationParams, rng: np.random.Generator) -> Run:
    """Draw a RestingState run: eyes open and closed in turn, as instructed."""
    end = float(int(params.rest_seconds))
    rows = [(0.0, "break cnt", ""), (rng.uniform(0.8, 1.6), "resting_start", "")]
    closed = []
    time = rng.uniform(1.8, 2.4)
    while time < end - 1.0:
        rows.append((time, "instructed_toOpenEyes", ""))
        start = time + params.eyes_open_seconds
        time = start + params.eyes_closed_seconds
        if start < end - 1.0:
            rows.append((start, "instructed_toCloseEyes", ""))
            closed.append((start, min(time, end)))
    events = _events(rows).drop(columns="feedback")
    return Run(int(end), events, pd.DataFrame(), tuple(closed))


def draw_contrast_run(
    subject: pd.Series, run: int, params: SimulationParams, rng: np.random.Generator
) -> Run:
    """Draw contrastChangeDetection run number `run` (from 1) of a row of `draw_subjects`.

    Its trials have one row a target: `start`, `onset` (s), `side`, `answered`, `latent_rt` (s from
    the target to the end of the build-up), `rt` (s, missing without press), `response_side`,
    `correct`, `n_presses`, `oracle_rt`.
    """
    trials = _trials(subject, params, rng)
    last_start = float(trials["onset"].iloc[-1] + TARGET_SECONDS)
    seconds = int(np.ceil(last_start + TAIL_SECONDS))
    rows = [
        (0.0, "break cnt", "n/a"),
        (float(rng.uniform(1.0, 2.0)), f"contrastChangeB{run}_start", "n/a"),
    ]
    if rng.random() < SHARE_ABORTED:
        rows[0] = (0.0, str(rng.choice(["left_target", "right_target"])), "n/a")
    for trial in each(trials):
        rows += _trial_events(trial, rng)
    rows += _last_events(last_start, seconds, rng)
    shown = trials[trials["shown"]].drop(columns="shown").reset_index(drop=True)
    return Run(seconds, _events(rows), shown)


def _trials(subject: pd.Series, params: SimulationParams, rng: np.random.Generator) -> pd.DataFrame:
    n = params.trials_per_run
    waits = rng.permutation(np.resize(FOREPERIODS, n))
    empty = rng.random(n) < SHARE_NO_TARGET
    starts = LEAD_SECONDS + np.concatenate([[0.0], np.cumsum(waits + TARGET_SECONDS)[:-1]])
    left = rng.permutation(np.arange(n) % 2 == 0)
    table = pd.DataFrame({"trial": np.arange(1, n + 1), "start": starts, "onset": starts + waits})
    table["side"] = np.where(left, "left", "right")
    table["answered"] = rng.random(n) >= subject["miss_rate"]
    latent, rt = response_times(subject["rt_mean"], n, params, rng)
    table["latent_rt"] = latent
    table["rt"] = np.where(table["answered"], (rt * EVENT_RATE).round() / EVENT_RATE, np.nan)
    right_side = rng.random(n) < subject["accuracy"]
    table["correct"] = table["answered"] & right_side
    table["response_side"] = np.where(right_side, table["side"], np.where(left, "right", "left"))
    # further presses are more likely with more time left
    time_left = TARGET_SECONDS - table["rt"].fillna(TARGET_SECONDS)
    again = rng.random(n) < SHARE_FURTHER_PRESSES * time_left / 0.78
    further = np.where(again, rng.choice([1, 2, 3], n, p=[0.78, 0.12, 0.10]), 0)
    table["n_presses"] = table["answered"].astype(int) + further
    table["oracle_rt"] = latent if params.rt_follows == "build_up" else RT_MEAN
    table["shown"] = ~empty | (np.arange(n) == n - 1)
    return table


def response_times(
    subject_mean: float, n: int, params: SimulationParams, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw latent and observed response times in s, each (n,).

    The observed time is the latent one plus a delay that no electrode shows; so the latent time
    is the best prediction that any EEG could give. A few are fast guesses.
    """
    middle, spread = _without_guesses(params)
    mean = middle + subject_mean - RT_MEAN
    latent = _skewed(mean, spread * np.sqrt(VISIBLE_SHARE), n, rng)
    guess = rng.random(n) < GUESS_SHARE
    latent[guess] = rng.uniform(*GUESS_RANGE, guess.sum())
    observed = latent + _delay(latent, spread * np.sqrt(1 - VISIBLE_SHARE), rng)
    if params.rt_follows == "subject":
        pooled = np.hypot(spread, params.rt_subject_sd)
        latent = _skewed(middle, pooled, n, rng)
    return latent, observed


def _without_guesses(params: SimulationParams) -> tuple[float, float]:
    """Mean and within-subject deviation of the times that are not guesses."""
    low, high = GUESS_RANGE
    g, guess_mean, guess_var = GUESS_SHARE, (low + high) / 2, (high - low) ** 2 / 12
    mean = (RT_MEAN - g * guess_mean) / (1 - g)
    from_guesses = g * (guess_var + (guess_mean - RT_MEAN) ** 2)
    pooled = (RT_SD**2 - from_guesses) / (1 - g) - (mean - RT_MEAN) ** 2
    # clipping to the possible range reduces it by about 3 %
    return mean, 1.03 * float(np.sqrt(max(pooled - params.rt_subject_sd**2, 0.02**2)))


def _skewed(mean: float, sd: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from a beta distribution on the possible range, skewed to the left as the real one."""
    from scipy import stats

    low, high = LATENT_RANGE
    share = np.clip((mean - low) / (high - low), 0.05, 0.95)
    variance = np.clip((sd / (high - low)) ** 2, 1e-6, 0.8 * share * (1 - share))
    total = share * (1 - share) / variance - 1
    # one in each of n equal parts, for an even spread
    quantiles = (rng.permutation(n) + rng.random(n)) / n
    return low + (high - low) * stats.beta.ppf(quantiles, share * total, (1 - share) * total)


def _delay(latent: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Gaussian delays that keep the observed time in its range."""
    delay = rng.normal(0.0, sd, len(latent))
    for _ in range(50):
        outside = (latent + delay < RT_RANGE[0]) | (latent + delay > RT_RANGE[1])
        if not outside.any():
            break
        delay[outside] = rng.normal(0.0, sd, outside.sum())
    return np.clip(latent + delay, *RT_RANGE) - latent


def _trial_events(trial: Any, rng: np.random.Generator) -> list[Event]:
    start, onset, side = trial.start, trial.onset, trial.response_side
    rows = [(start, "contrastTrial_start", "n/a")]
    if not trial.shown:
        return rows
    rows.append((onset, f"{trial.side}_target", "n/a"))
    if rng.random() < SHARE_EARLY_PRESSES:
        for _ in range(rng.choice([1, 2, 3], p=[0.81, 0.12, 0.07])):
            hand = rng.choice(["left", "right"])
            time = rng.uniform(start + 0.02, onset - 0.02)
            rows.append((time, f"{hand}_buttonPress", "non_target"))
    if trial.answered:
        press = onset + trial.rt
        face = "smiley_face" if trial.correct else "sad_face"
        rows.append((press, f"{side}_buttonPress", face))
        end = onset + TARGET_SECONDS - 0.002
        for _ in range(trial.n_presses - 1):
            hand = side if rng.random() < 0.7 else ("left" if side == "right" else "right")
            press = press + rng.uniform(0.1, 0.95) * (end - press)
            rows.append((press, f"{hand}_buttonPress", "non_target"))
    return rows


def _last_events(last_start: float, seconds: int, rng: np.random.Generator) -> list[Event]:
    rows = [
        (last_start, "contrastTrial_start", "n/a"),
        (last_start + 0.9, "break cnt", "n/a"),
        (last_start + 1.4, "9999", "n/a"),
    ]
    if rng.random() < SHARE_VIDEO:
        rows.append((last_start + 1.8, "video_start", "n/a"))
        if rng.random() < 0.8:
            rows.append((last_start + 2.3, "video_stop", "n/a"))
    if rng.random() < SHARE_BOUNDARY:
        rows.append((seconds - 0.002, "boundary", "n/a"))
    return rows


def _events(rows: list[Event]) -> pd.DataFrame:
    """Make events.tsv as HBN writes it: sorted, times on the 500 Hz grid, duration unknown."""
    times, values, feedback = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    samples = [round(time * EVENT_RATE) for time in times]
    return pd.DataFrame(
        {
            "onset": [f"{sample / EVENT_RATE:.3f}".rstrip("0").rstrip(".") for sample in samples],
            "duration": "n/a",
            "sample": samples,
            "value": values,
            "event_code": [CODES.get(value, value) for value in values],
            "feedback": feedback,
        }
    )
