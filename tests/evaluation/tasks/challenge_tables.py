"""Prediction tables of the two challenges with a known relation between truth and answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from planted_trials import FACTORS


def response_time_table(
    n_subjects: int = 24, n_trials: int = 40, skill: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """Trials whose latent time the model sees with an error; the rest of the spread is noise."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(n_subjects):
        subject = f"s{number:02}"
        middle = 1.6 + 0.2 * random.normal()
        for trial in range(n_trials):
            latent = 0.34 * random.normal()
            rt = float(np.clip(middle + latent, 0.3, 2.39))
            guess = 1.6 + skill**2 * (latent + 0.34 * np.sqrt(1 / skill**2 - 1) * random.normal())
            ease = random.normal()
            run = trial * 2 // n_trials + 1
            rows.append(
                {"recording": f"sub-{subject}_run-{run}", "subject": subject,
                 "task": "contrastChangeDetection", "run": run, "start": 800 * trial,
                 "trial": trial, "rt": rt, "predicted_rt": float(np.clip(guess, 0.5, 2.5)),
                 "correct": float(random.random() < 1 / (1 + np.exp(-2 - ease))),
                 "p_correct": float(1 / (1 + np.exp(-2 - 0.8 * ease)))}
            )  # fmt: skip
    return pd.DataFrame(rows)


def factor_tables(
    n_subjects: int = 40, n_windows: int = 12, skill: float = 0.4, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Windows with predictions, and the people; the last subject's factors are not known."""
    random = np.random.default_rng(seed)
    subjects = [f"s{number:02}" for number in range(n_subjects)]
    people = pd.DataFrame({"subject": subjects, "age": random.uniform(5, 21, n_subjects),
                           "sex": random.integers(0, 2, n_subjects).astype(float)})  # fmt: skip
    for factor in FACTORS:
        people[factor] = 0.25 * (people["sex"] - 0.5) + 0.8 * random.normal(size=n_subjects)
    people.loc[n_subjects - 1, list(FACTORS)] = np.nan
    windows = people.loc[people.index.repeat(n_windows)].reset_index(drop=True)
    windows["recording"] = "sub-" + windows["subject"] + "_task-RestingState"
    windows["start"] = np.tile(np.arange(n_windows) * 200, n_subjects)
    for factor in FACTORS:
        seen = people[factor].fillna(0) + 0.8 * np.sqrt(1 / skill**2 - 1) * random.normal(
            size=n_subjects
        )
        own = skill**2 * seen.to_numpy().repeat(n_windows)
        windows[f"predicted_{factor}"] = own + 0.2 * random.normal(size=len(windows))
    return windows, people
