"""The subjects of the simulated release: their participants.tsv and the features of their EEG.

Every value is drawn by ranks (each quantile once, in random order), so that few subjects have the
spread of the real ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from hbn_foundation.recordings.simulation.behaviour import RT_MEAN
from hbn_foundation.recordings.simulation.params import SimulationParams

FEMALE_SHARE = 0.43
RELEASES = ("R1", "R2", "R3", "R4", "R5", "R12")
FACTORS = ("p_factor", "attention", "internalizing", "externalizing")

# Means and spreads of the 1,124 participants of releases 1-5; of the 867 with response times:
# accuracy .853 ± .175, missed targets .154 ± .166 a subject.
AGE_RANGE = (5.0, 21.7)
FACTOR_SD = {"p_factor": 0.90, "attention": 0.83, "internalizing": 0.81, "externalizing": 0.76}
FACTOR_WITH_AGE = {"p_factor": 0.0, "attention": 0.0, "internalizing": 0.23, "externalizing": -0.19}
ACCURACY_BETA = (2.64, 0.456)
MISS_BETA = (0.56, 3.11)
SHARE_WITHOUT_FACTORS = 0.02

PARTICIPANT_COLUMNS = (
    *("participant_id", "release_number", "sex", "age", "ehq_total", "commercial_use"),
    *("full_pheno", *FACTORS, "RestingState", "DespicableMe", "FunwithFractals", "ThePresent"),
    *("DiaryOfAWimpyKid", "contrastChangeDetection_1", "contrastChangeDetection_2"),
    *("contrastChangeDetection_3", "surroundSupp_1", "surroundSupp_2", "seqLearning6target"),
    *("seqLearning8target", "symbolSearch"),
)


def draw_subjects(params: SimulationParams) -> pd.DataFrame:
    """Draw the subjects: `subject`, the varying columns of participants.tsv, and true features.

    These are rates (`accuracy`, `miss_rate`), `rt_mean` in s, frequencies in Hz, amplitudes in µV
    (root mean square, or peak for `build_up_uv`, at the channel where the component is strongest).
    """
    rng = np.random.default_rng([params.seed, 0])
    table = _demographics(rng, params)
    z = {name: _standardise(table[name].to_numpy()) for name in ("age", *FACTORS)}
    z["female"] = np.where(table["sex"] == "F", 1.0, -1.0)
    table = pd.concat([table, _behaviour(rng, z, params), _physiology(rng, z, params)], axis=1)
    n_missing = round(SHARE_WITHOUT_FACTORS * len(table) + 0.2)
    unknown = rng.choice(len(table), n_missing, replace=False)
    table["factors_known"] = ~np.isin(np.arange(len(table)), unknown)
    return table


def participants_table(subjects: pd.DataFrame, params: SimulationParams) -> pd.DataFrame:
    """Return participants.tsv: HBN's columns, missing values as `n/a`."""
    out = pd.DataFrame("unavailable", index=subjects.index, columns=list(PARTICIPANT_COLUMNS))
    out["participant_id"] = "sub-" + subjects["subject"]
    for column in ("release_number", "sex", "full_pheno"):
        out[column] = subjects[column]
    out["commercial_use"] = "Yes"
    out["age"] = [f"{age:.4f}" for age in subjects["age"]]
    out["ehq_total"] = [f"{value:.2f}" for value in subjects["ehq_total"]]
    for factor in FACTORS:
        shown = [f"{value:.3f}" for value in subjects[factor]]
        out[factor] = np.where(subjects["factors_known"], shown, "n/a")
    out["RestingState"] = "available"
    for run in range(1, params.ccd_runs + 1):
        out[f"contrastChangeDetection_{run}"] = "available"
    return out


def _demographics(rng: np.random.Generator, params: SimulationParams) -> pd.DataFrame:
    n = params.n_subjects
    ages = np.clip(np.exp(np.log(9.7) + 0.33 * normal(rng, n)), *AGE_RANGE)
    age_z = _standardise(ages)
    female = rng.permutation(np.arange(n) < round(FEMALE_SHARE * n))
    shared = normal(rng, n)
    table = pd.DataFrame(
        {
            "subject": [f"NDARSIM{number:03d}" for number in range(1, n + 1)],
            "release_number": np.resize(RELEASES, n),
            "sex": np.where(female, "F", "M"),
            "age": ages.round(4),
            "ehq_total": np.clip(80 - 60 * np.abs(normal(rng, n)), -100.05, 100.05).round(2),
            "full_pheno": rng.choice(["Yes", "No"], n, p=[0.6, 0.4]),
        }
    )
    for factor in FACTORS:
        own = normal(rng, n) + FACTOR_WITH_AGE[factor] * age_z + 0.3 * shared
        table[factor] = (FACTOR_SD[factor] * _standardise(own)).round(3)
    return table


def _behaviour(
    rng: np.random.Generator, z: dict[str, np.ndarray], params: SimulationParams
) -> pd.DataFrame:
    """Response times and rates; mean response times depend on no other trait."""
    n = params.n_subjects
    careless = 0.5 * z["attention"] + normal(rng, n)
    inaccurate = 0.5 * z["attention"] + normal(rng, n)
    rt_mean = RT_MEAN + params.rt_subject_sd * normal(rng, n)
    return pd.DataFrame(
        {
            "rt_mean": np.clip(rt_mean, RT_MEAN - 0.5, RT_MEAN + 0.45),
            "accuracy": np.clip(stats.beta.ppf(1 - _ranks(inaccurate), *ACCURACY_BETA), 0.3, 1.0),
            "miss_rate": np.clip(stats.beta.ppf(_ranks(careless), *MISS_BETA), 0.0, 0.6),
        }
    )


def _physiology(
    rng: np.random.Generator, z: dict[str, np.ndarray], params: SimulationParams
) -> pd.DataFrame:
    n, k = params.n_subjects, params.trait_strength

    def around(middle: float, spread: float, effect: np.ndarray | float = 0.0) -> np.ndarray:
        return middle * np.exp(spread * normal(rng, n) + k * np.asarray(effect))

    return pd.DataFrame(
        {
            "alpha_hz": np.clip(9.6 + 0.7 * k * z["age"] + 0.4 * normal(rng, n), 7.5, 12.5),
            "slope": np.clip(1.55 - 0.18 * k * z["age"] + 0.12 * normal(rng, n), 0.8, 2.4),
            "background_uv": around(11.0, 0.15, -0.12 * z["age"]),
            "alpha_uv": around(7.0, 0.30),
            "alpha_reactivity": around(2.0, 0.15, -0.20 * z["p_factor"]),
            "alpha_asymmetry": around(1.0, 0.10, 0.25 * z["internalizing"]),
            "theta_uv": around(4.0, 0.15, 0.30 * z["externalizing"]),
            "beta_uv": around(2.6, 0.20, 0.25 * z["female"] - 0.10 * z["externalizing"]),
            "mu_uv": around(3.5, 0.25),
            "flicker_uv": around(0.9, 0.35),
            "build_up_uv": around(18.0, 0.12, -0.15 * z["attention"]),
            "muscle_uv": around(1.5, 0.40),
            "blink_uv": around(110.0, 0.20),
            "blinks_per_minute": around(12.0, 0.30),
            "line_uv": around(0.4, 0.50),
        }
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    return (np.argsort(np.argsort(values)) + 0.5) / len(values)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw n normal numbers by ranks, each quantile once."""
    return _standardise(stats.norm.ppf(_ranks(rng.random(n))))


def _standardise(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(values.std(), 1e-9)
