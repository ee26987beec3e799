"""The ideal observer: how well response times can be read from the simulated EEG at best.

``python benchmarks/ideal_observer.py data/simulated/01_raw/simulated`` prints the error of the best
possible predictions of a simulated release, pooled over its answered trials: of the latent time
itself (``oracle_rt``), and of the observer (``observer_rt``).

The observer knows what no model is told: topographies, time courses, the subject's build-up, and
which channels are bad. Of each trial it takes the model's window, .5 to 2.5 s after the target,
filters it in space (LCMV, van Veen et al. 1997) for the build-up and both hand areas, and weighs
every possible end of the build-up by its likelihood in Gaussian noise of the recording's own
covariance and by how frequent it is. Its answer is the posterior mean.
"""

from __future__ import annotations

import argparse
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation import responses
from hbn_foundation.recordings.simulation.behaviour import RT_MEAN, RT_SD
from hbn_foundation.recordings.simulation.head import Head, make_head
from hbn_foundation.recordings.simulation.noise import filtered

WINDOW = (0.5, 2.5)
SPACING = 0.03
BIN_SECONDS = 0.04
SOURCES = ("build_up", "hand_left", "hand_right")
HEIGHT_MEAN, HEIGHT_SD = 0.95, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="folder of a simulated release")
    trials = observed_trials(parser.parse_args().root)
    trials = trials[trials["answered"]]
    for name in ("oracle_rt", "observer_rt"):
        nrmse = np.sqrt((trials["rt"] - trials[name]).pow(2).mean()) / trials["rt"].std(ddof=0)
        print(f"{name:12} NRMSE {nrmse:.3f}  R² {1 - nrmse**2:.3f}")


def observed_trials(root: Path) -> pd.DataFrame:
    """Trials of a simulated release's ground truth, with the observer's times: `observer_rt`."""
    import mne

    truth = root / "derivatives" / "ground_truth"
    params = json.loads((root / "simulation.json").read_text())["params"]
    head = make_head(params["n_background_sources"])
    subjects = pd.read_csv(truth / "subjects.tsv", sep="\t").set_index("subject")
    recordings = pd.read_csv(truth / "recordings.tsv", sep="\t").set_index("recording")
    parts = []
    for (subject, run), trials in pd.read_csv(truth / "trials.tsv", sep="\t").groupby(
        ["subject", "run"]
    ):
        name = f"sub-{subject}_task-contrastChangeDetection_run-{run}"
        path = root / f"sub-{subject}" / "eeg" / f"{name}_eeg.bdf"
        eeg = mne.io.read_raw_bdf(path, verbose="error").get_data() * 1e6
        bad = ",".join(recordings.loc[name, ["flat", "noisy"]].dropna()).split(",")
        good = np.array([name not in (*bad, "Cz") for name in head.names])
        courses = spatially_filtered(eeg, head, good)
        build_up = float(subjects.loc[subject, "build_up_uv"])
        times = observe(
            courses, trials["onset"].to_numpy(), build_up, float(params["sfreq"]), (RT_MEAN, RT_SD)
        )
        parts.append(trials.assign(observer_rt=times))
    return pd.concat(parts, ignore_index=True)


def spatially_filtered(eeg: np.ndarray, head: Head, good: np.ndarray) -> np.ndarray:
    """(3, T) courses of the sources from the good channels of (129, T) µV."""
    data = eeg[good]
    shapes = np.hstack([head.topographies[name][good] for name in SOURCES]).astype(float)
    data, shapes = data - data.mean(axis=0), shapes - shapes.mean(axis=0)
    solved = np.linalg.solve(np.cov(data) + 0.3 * np.eye(len(data)), shapes)
    return np.linalg.solve(shapes.T @ solved, solved.T) @ data


def observe(
    courses: np.ndarray,
    onsets: np.ndarray,
    build_up_uv: float,
    sfreq: float,
    prior: tuple[float, float],
) -> np.ndarray:
    """Return the observer's response time for each target in s.

    Parameters
    ----------
    courses
        (3, T) courses of the sources in µV.
    onsets
        Of the targets in s.
    build_up_uv
        The subject's true build-up.
    prior
        Mean and standard deviation of the latent times of all subjects in s.
    """
    first, length = round(WINDOW[0] * sfreq), round((WINDOW[1] - WINDOW[0]) * sfreq)
    step = max(1, round(BIN_SECONDS * sfreq))
    starts = np.arange(0, courses.shape[1] - length, max(1, length // 28))
    pieces = np.array([binned(courses[:, i : i + length], step).ravel() for i in starts])
    noise = np.cov(pieces.T)
    noise += 0.05 * np.trace(noise) / len(noise) * np.eye(len(noise))
    ends, shapes = templates(sfreq, step)
    scaled = shapes * np.array([build_up_uv, 1.0, 1.0])[:, None]
    scaled = scaled.reshape(2, len(ends), -1)
    weighted = scaled @ np.linalg.inv(noise)
    energy = np.sum(weighted * scaled, axis=-1)
    log_prior = -0.5 * ((ends - prior[0]) / prior[1]) ** 2
    times = np.full(len(onsets), prior[0])
    for number, onset in enumerate(onsets):
        start = round(onset * sfreq) + first
        if start + length <= courses.shape[1]:
            seen = binned(courses[:, start : start + length], step).ravel()
            times[number] = posterior_mean(weighted @ seen, energy, ends, log_prior)
    return times


def posterior_mean(
    match: np.ndarray, energy: np.ndarray, ends: np.ndarray, log_prior: np.ndarray
) -> float:
    """Average over the height of the build-up (Gaussian), the hand, and the end."""
    precision = 1.0 / HEIGHT_SD**2
    log = 0.5 * (match + HEIGHT_MEAN * precision) ** 2 / (energy + precision)
    log = log - 0.5 * np.log(1.0 + energy / precision)
    both = np.logaddexp(log[0], log[1]) + log_prior
    weight = np.exp(both - both.max())
    return float(weight @ ends / weight.sum())


@lru_cache(maxsize=2)
def templates(sfreq: float, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute ends of the build-up (m,) and window courses (2 hands, m, 3 sources, bins)."""
    ends = np.arange(0.35, 2.35 + SPACING / 2, SPACING)
    times = np.arange(round(10 * sfreq)) / sfreq - 4.0
    inside = (times >= WINDOW[0] - 0.5 / sfreq) & (times < WINDOW[1] - 0.5 / sfreq)
    hands = []
    for hand in ("left", "right"):
        trial = pd.DataFrame({"onset": [0.0], "answered": True, "correct": True})
        trial["response_side"] = hand
        made = []
        for end in ends:
            one = trial.assign(latent_rt=end)
            courses = (
                responses.build_up(one, times, None),
                responses.readiness(one, times, "left"),
                responses.readiness(one, times, "right"),
            )
            made.append(filtered(np.vstack(courses), sfreq)[:, inside])
        hands.append(np.stack(made))
    return ends, binned(np.stack(hands), step)


def binned(courses: np.ndarray, step: int) -> np.ndarray:
    bins = courses.shape[-1] // step
    return courses[..., : bins * step].reshape(*courses.shape[:-1], bins, step).mean(axis=-1)


if __name__ == "__main__":
    main()
