"""Simulated nights of sleep: hypnograms, and an EEG whose rhythms and waves follow the stages.

Amplitudes, frequencies and rates of waves are of the size that the scoring manual (Iber et al.
2007) and textbooks give for adults; nothing is fitted to recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from hbn_foundation.recordings.simulation import noise
from hbn_foundation.recordings.simulation.behaviour import Run
from hbn_foundation.recordings.simulation.head import Head, make_head
from hbn_foundation.recordings.simulation.params import SleepParams
from hbn_foundation.recordings.simulation.signals import Parts, Simulation, eyes_and_muscles
from hbn_foundation.recordings.simulation.subjects import normal
from hbn_foundation.recordings.simulation.writing import (
    write_description,
    write_recording,
    write_subjects,
    write_truth,
    write_tsv,
)

SLEEP_VERSION = 1  # raise it when the same parameters give other files
EPOCH = 30  # s
STAGES = ("W", "N1", "N2", "N3", "R")

#: From a stage to the next one within 30 s, before the cycle weighs them; of a shortened night.
STEPS = np.array(
    [
        [0.78, 0.20, 0.02, 0.00, 0.00],
        [0.06, 0.50, 0.40, 0.00, 0.04],
        [0.02, 0.03, 0.84, 0.07, 0.04],
        [0.01, 0.01, 0.16, 0.82, 0.00],
        [0.03, 0.04, 0.07, 0.00, 0.86],
    ]
)
#: Weights of the stages at the beginning, in the middle and at the end of a cycle.
OF_CYCLE = np.array(
    [[1.0, 1.4, 1.0, 0.3, 0.1], [0.3, 0.6, 1.0, 2.0, 0.1], [0.7, 1.0, 1.0, 0.1, 5.0]]
)
SWITCH_SECONDS = 12.0  # the EEG changes so long before or after the 30 s that are scored
AWAKE_EYES_OPEN = 0.3  # share of wakefulness

#: Factors on the amplitude of each component by stage, in the order of `STAGES`.
GAINS = {
    "background": (1.0, 0.95, 1.05, 1.15, 0.9),
    "slow": (0.15, 0.35, 0.7, 2.0, 0.3),
    "alpha": (1.0, 0.45, 0.15, 0.1, 0.25),
    "theta": (0.5, 1.15, 0.9, 0.8, 1.1),
    "beta": (1.0, 0.7, 0.45, 0.3, 0.65),
    "muscle": (1.0, 0.65, 0.5, 0.45, 0.35),
    "rolling": (0.25, 1.0, 0.1, 0.0, 0.1),
}
#: Waves a minute by stage.
RATES = {
    "spindle": (0.0, 0.15, 4.0, 1.0, 0.05),
    "k_complex": (0.0, 0.0, 1.5, 0.5, 0.0),
    "sawtooth": (0.0, 0.1, 0.0, 0.0, 2.0),
    "saccade": (4.0, 0.3, 0.0, 0.0, 9.0),
}
SPINDLE_UV, SAWTOOTH_UV, ROLLING_UV, SACCADE_UV = 16.0, 22.0, 22.0, 90.0

#: Features of subjects: their median, the deviation of their logarithm, and its change by a
#: standard deviation of age. Hz, µV, and factors.
FEATURES = {
    "alpha_hz": (9.9, 0.07, -0.02), "spindle_hz": (13.0, 0.035, 0.0), "slope": (1.6, 0.07, 0.0),
    "background_uv": (9.0, 0.25, 0.0), "slow_uv": (12.0, 0.22, -0.2), "alpha_uv": (9.0, 0.45, 0.0),
    "theta_uv": (4.5, 0.2, 0.0), "beta_uv": (2.4, 0.25, 0.0), "spindles": (1.0, 0.3, -0.2),
    "k_complex_uv": (90.0, 0.2, -0.1), "wakefulness": (1.0, 0.3, 0.3), "muscle_uv": (2.0, 0.4, 0.0),
    "blink_uv": (100.0, 0.2, 0.0), "blinks_per_minute": (12.0, 0.3, 0.0),
}  # fmt: skip
#: Channels, and the electrodes of the simulated head at their places.
CHANNELS = {"Fp1": "E22", "Fp2": "E9", "F3": "E24", "F4": "E124",
            "C3": "E36", "C4": "E104", "O1": "E70", "O2": "E83"}  # fmt: skip
EARS = ("E57", "E100")

OWN = {"EEGChannelCount": len(CHANNELS), "EEGReference": "mean of both mastoids",
       "CapManufacturer": "n/a", "CapManufacturersModelName": "n/a"}  # fmt: skip
README = """No person was recorded: signals, participants and sleep stages are simulated. A night of
six hours is shortened, all of its cycles alike. trial_type of events.tsv is the stage of each 30 s.
"""


def write_nights(root: Path, params: SleepParams) -> pd.DataFrame:
    """Write one night of each subject into a BIDS root; return a row per recording."""
    subjects = draw_sleepers(params)
    write_description(root, "Simulated nights of sleep", "raw")
    (root / "README").write_text(README)
    people = subjects[["subject", "age", "sex"]].rename(columns={"subject": "participant_id"})
    write_tsv(root / "participants.tsv", people.assign(participant_id="sub-" + subjects["subject"]))
    head = bedside(make_head(params.n_background_sources))
    each = [(root, number, subjects.iloc[number], head, params) for number in range(len(subjects))]
    recordings = pd.DataFrame(write_subjects(_write_night, each, params.n_jobs))
    write_truth(root, {"subjects": subjects.round(4), "recordings": recordings})
    return recordings


def draw_sleepers(params: SleepParams) -> pd.DataFrame:
    """Draw the subjects: age, sex, and features of their EEG in Hz, µV and waves a minute.

    Slow waves become smaller, spindles fewer and wakefulness longer with age.
    """
    n = params.n_subjects
    rng = np.random.default_rng([params.seed, 2])
    age = normal(rng, n)

    people = pd.DataFrame({"subject": [f"SLEEP{number:02d}" for number in range(1, n + 1)],
                           "age": np.clip(42 + 14 * age, 19, 80).round(1),
                           "sex": np.where(rng.permutation(n) < n // 2, "F", "M")})  # fmt: skip
    for name, (middle, spread, of_age) in FEATURES.items():
        people[name] = middle * np.exp(spread * normal(rng, n) + of_age * age)
    return people


def bedside(head: Head) -> Head:
    """Reduce a head to the channels of a night, referred to the mean of the mastoids.

    The largest magnitude of each topography is 1 again.
    """
    rows, ears = ([head.names.index(name) for name in some] for some in (CHANNELS.values(), EARS))
    shapes = {name: part[rows] - part[ears].mean(0) for name, part in head.topographies.items()}
    background = head.background[rows] - head.background[ears].mean(0)
    return Head(
        tuple(CHANNELS),
        {name: part / np.abs(part).max(0) for name, part in shapes.items()},
        background / np.sqrt((background**2).sum(1).mean()),
    )


def draw_hypnogram(subject: pd.Series, params: SleepParams, rng: np.random.Generator) -> np.ndarray:
    """Draw the stage (n_epochs,) of each 30 s, as places in `STAGES`.

    A Markov chain whose steps are weighed by where in its cycle the night is: deep sleep in the
    middle, more of it in the first cycles, REM sleep at the end, more of it in the last ones.
    """
    n = int(params.minutes * 60) // EPOCH
    found = np.zeros(n, np.int64)
    for epoch in range(2, n):  # awake for a minute
        cycle, phase = divmod(epoch / n * params.cycles, 1)
        late = cycle / max(params.cycles - 1, 1)
        weights = np.array([np.interp(phase, [0.05, 0.45, 0.9], part) for part in OF_CYCLE.T])
        weights *= [subject["wakefulness"], 1.0, 1.0, 1.5 - late, 0.5 + late]
        steps = STEPS[found[epoch - 1]] * weights
        found[epoch] = rng.choice(len(STAGES), p=steps / steps.sum())
    return found


def simulate_night(
    subject: pd.Series,
    stages: np.ndarray,
    head: Head,
    params: SleepParams,
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate the EEG (channels, n_samples) in µV of a night with these stages (n_epochs,)."""
    stage = _at_each_sample(stages, params.sfreq, rng)
    opened = _opened(stage, params.sfreq, rng)
    run = Run(len(stages) * EPOCH, pd.DataFrame(), pd.DataFrame())
    sim = Simulation(subject, run, head, float(params.sfreq), rng)
    f = noise.frequencies(len(stage), sim.sfreq)
    wander = partial(_wandering, sim, len(stage), params.ambiguity)
    gain = {name: wander() * _of_stage(values, stage, sim.sfreq) for name, values in GAINS.items()}
    gain["alpha"] = gain["alpha"] * (1.0 - 0.65 * opened)
    courses = sim.noise(head.background.shape[1], noise.one_over_f(f, subject["slope"]))
    eeg = head.background @ (courses * gain["background"] * np.float32(sim.varied("background_uv")))
    parts = [*_rhythms(sim, f, gain), *_waves(sim, stage)]
    blinks, tension = eyes_and_muscles(sim, f)
    parts += [(blinks[0], blinks[1] * opened), (tension[0], tension[1] * gain["muscle"])]
    for shape, course in parts:
        eeg += shape.astype(np.float32) @ np.atleast_2d(course).astype(np.float32)
    return eeg + rng.standard_normal(eeg.shape, dtype=np.float32)


def _at_each_sample(stages: np.ndarray, sfreq: int, rng: np.random.Generator) -> np.ndarray:
    """(T,) stage of the EEG: it changes a little before or after the scored stage does."""
    changes = np.flatnonzero(np.diff(stages)) + 1
    shifted = changes * EPOCH + rng.uniform(-SWITCH_SECONDS, SWITCH_SECONDS, len(changes))
    lengths = np.diff([0, *(shifted * sfreq).astype(int), len(stages) * EPOCH * sfreq])
    return np.repeat(stages[[0, *changes]], lengths)


def _opened(stage: np.ndarray, sfreq: int, rng: np.random.Generator) -> np.ndarray:
    """(T,) 1 where the eyes are open, in a part of wakefulness, else 0."""
    block = 10 * sfreq
    opened = rng.random(-(-len(stage) // block)) < AWAKE_EYES_OPEN
    return np.repeat(opened, block)[: len(stage)] * (stage == 0)


def _of_stage(values: tuple[float, ...], stage: np.ndarray, sfreq: float) -> np.ndarray:
    """(T,) amplitude by stage, which turns into the next within three seconds."""
    from scipy.ndimage import uniform_filter1d

    return uniform_filter1d(np.array(values, np.float32)[stage], int(3 * sfreq))


def _wandering(sim: Simulation, n_samples: int, spread: float) -> np.ndarray:
    """(T,) factor that changes from minute to minute, its logarithm with this deviation."""
    knots = np.arange(0, n_samples + 60 * sim.sfreq, 40 * sim.sfreq)
    steps = np.interp(np.arange(n_samples), knots, sim.rng.standard_normal(len(knots)))
    return np.exp(1.22 * spread * steps).astype(np.float32)  # linear steps lose a third of it


def _rhythms(sim: Simulation, f: np.ndarray, gain: dict[str, np.ndarray]) -> Parts:
    """Slow waves, alpha, theta and beta, and slow rolling of the eyes."""
    shapes, subject = sim.head.topographies, sim.subject
    spectra = {
        "slow": ("theta", noise.bump(f, 0.9, 0.4)),
        "alpha": ("alpha", noise.bump(f, subject["alpha_hz"], 0.7)),
        "theta": ("theta", noise.bump(f, 5.6, 1.0)),
        "beta": ("beta", noise.bump(f, 18.0, 3.5)),
    }
    parts = []
    for name, (place, spectrum) in spectra.items():
        own = sim.noise(shapes[place].shape[1], spectrum)
        course = 0.75 * sim.noise(1, spectrum) + 0.4 * own
        parts.append((shapes[place], sim.varied(f"{name}_uv") * gain[name] * course))
    rolling = ROLLING_UV * gain["rolling"] * sim.noise(1, noise.bump(f, 0.5, 0.15))
    return [*parts, (_sideways(sim), rolling)]


def _sideways(sim: Simulation) -> np.ndarray:
    """(channels, 1) potentials of eyes that look to one side: opposite left and right."""
    shapes = sim.head.topographies
    return (shapes["eye_left"] - shapes["eye_right"]) / 2


def _waves(sim: Simulation, stage: np.ndarray) -> Parts:
    """Spindles, K-complexes, sawtooth waves and eye movements, scattered over their stages."""
    from scipy.signal import sawtooth
    from scipy.signal.windows import hann

    rng, rate, subject = sim.rng, sim.sfreq, sim.subject

    def times(low: float, high: float) -> np.ndarray:
        return np.arange(int(rng.uniform(low, high) * rate)) / rate

    def spindle() -> np.ndarray:
        t = times(0.5, 1.6)
        return hann(len(t)) * np.sin(2 * np.pi * (subject["spindle_hz"] * t + rng.random()))

    def k_complex() -> np.ndarray:
        t = times(1.5, 1.6)
        return 0.6 * np.exp(-(((t - 0.75) / 0.25) ** 2)) - np.exp(-(((t - 0.3) / 0.11) ** 2))

    def teeth() -> np.ndarray:
        t = times(2.0, 5.0)
        return hann(len(t)) * sawtooth(2 * np.pi * rng.uniform(2.0, 4.0) * t, 0.8)

    def saccade() -> np.ndarray:
        t = times(0.4, 1.2)
        return rng.choice([-1.0, 1.0]) * np.tanh(np.minimum(t, t[-1] - t) / 0.05)

    def scattered(name: str, wave: Callable[[], np.ndarray], factor: float = 1.0) -> np.ndarray:
        course = np.zeros(len(stage), np.float32)
        chance = factor * np.array(RATES[name])[stage] / (60 * rate)
        for start in np.flatnonzero(rng.random(len(stage)) < chance):
            shape = wave()[: len(stage) - start] * np.exp(0.25 * rng.standard_normal())
            course[start : start + len(shape)] += shape
        return noise.filtered(course[None], rate)

    shapes = sim.head.topographies
    vertex = shapes["theta"].mean(1, keepdims=True)
    hands = shapes["hand_left"] + shapes["hand_right"]
    spindles = scattered("spindle", spindle, subject["spindles"])
    return [
        (hands / np.abs(hands).max(), SPINDLE_UV * spindles),
        (vertex, subject["k_complex_uv"] * scattered("k_complex", k_complex)),
        (vertex, SAWTOOTH_UV * scattered("sawtooth", teeth)),
        (_sideways(sim), SACCADE_UV * scattered("saccade", saccade)),
    ]


def _write_night(
    root: Path, number: int, subject: pd.Series, head: Head, params: SleepParams
) -> dict[str, Any]:
    rng = np.random.default_rng([params.seed, 3, number])
    stages = draw_hypnogram(subject, params, rng)
    with threadpool_limits(1):  # sums over threads differ in the last bit
        eeg = simulate_night(subject, stages, head, params, rng)
    name = f"sub-{subject['subject']}_task-sleep"
    events = pd.DataFrame({"onset": np.arange(len(stages)) * EPOCH, "duration": EPOCH,
                           "trial_type": np.array(STAGES)[stages]})  # fmt: skip
    write_recording(root, name, list(CHANNELS), eeg, params.sfreq, events, OWN)
    shares = {stage: (stages == k).mean().round(3) for k, stage in enumerate(STAGES)}
    seconds = len(stages) * EPOCH
    return {"recording": name, "subject": subject["subject"], "seconds": seconds, **shares}
