"""What a sweep says: learning curves per mode, modes compared on the same subjects, time saved."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.methods import ALL_SHARES, MODE_NAMES
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.statistics import holm, mean_interval

SCORES = {False: ("window_auroc", "balanced_accuracy", "f1"), True: ("nrmse", "mae", "r")}
MODES = tuple(MODE_NAMES)
CURVE_COLUMNS = ("mode", "target_data_pct", "score", "low", "high", "n_targets", "n_jobs",
                 "n_train")  # fmt: skip
PAIR_COLUMNS = ("first", "second", "target_data_pct", "ahead_by", "low", "high", "ahead_in",
                "n_targets", "p", "p_holm")  # fmt: skip


class Savings(NamedTuple):
    """Time that sharing bases saved, measured.

    Attributes
    ----------
    base_seconds, finetune_seconds
        Of all finished jobs.
    alone_seconds
        Had each fine-tuning trained its own base.
    ratio
        Time with shared bases over time without.
    bases, finetunings
        How many are finished.
    """

    base_seconds: float
    finetune_seconds: float
    alone_seconds: float
    ratio: float
    bases: int
    finetunings: int


def score_jobs(table: pd.DataFrame, predictions: pd.DataFrame, is_regression: bool) -> pd.DataFrame:
    """Add each fine-tuning's scores on its target's test windows to the table of jobs.

    Parameters
    ----------
    table
        A row per job, with `hash`.
    predictions
        `hash`, `value`, and `predicted` or `log_p_0`, `log_p_1`, … of all test windows.
    is_regression
        Whether the label is a number.

    Returns
    -------
    pandas.DataFrame
        The table with a column per score; NaN where there is none, as for one class only.
    """
    names = SCORES[is_regression]
    if predictions.empty:
        return table.assign(**dict.fromkeys(names, np.nan))
    outputs = [name for name in predictions if str(name).startswith("log_p_")]
    rows = {}
    for key, part in predictions.groupby("hash"):
        values = part["value"].to_numpy()
        answers = part[outputs if outputs else "predicted"].to_numpy(dtype=float)
        if outputs:
            values = values.astype(np.int64)
        rows[key] = {name: _score(values, answers, name) for name in names}
    found = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(names))
    return table.join(found, on="hash")


def _score(values: np.ndarray, answers: np.ndarray, name: str) -> float:
    return scorer_of(name).function(values, answers) if len(values) else np.nan


def by_target(scored: pd.DataFrame, score: str) -> pd.DataFrame:
    """Mean score of each target, by mode and share: base set-ups and seeds are no subjects.

    Returns
    -------
    pandas.DataFrame
        Index `mode`, `target_data_pct`; one column per target.
    """
    done = scored[(scored["kind"] == "finetune") & (scored["status"] == "done")]
    return done.pivot_table(
        index=["mode", "target_data_pct"], columns="target", values=score, aggfunc="mean"
    )


def learning_curves(
    scored: pd.DataFrame, score: str, bootstraps: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Mean score over targets for each mode and share, with 95 % bands over resampled targets.

    All modes and shares are resampled alike, so that bands may be compared (BCa bootstrap of
    subjects; the trained models are held fixed).

    Parameters
    ----------
    scored
        Of `score_jobs`.
    score
        Its column.
    bootstraps, seed
        Resamples.

    Returns
    -------
    pandas.DataFrame
        `mode`, `target_data_pct`, `score`, `low`, `high` (NaN with fewer than 10 targets),
        `n_targets`, `n_jobs`, `n_train` (mean number of the target's training windows).
    """
    values = by_target(scored, score)
    if values.empty:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    done = scored[(scored["kind"] == "finetune") & (scored["status"] == "done")]
    sizes: dict[Any, Any] = dict(list(done.groupby(["mode", "target_data_pct"])["n_train"]))
    keys: list[Any] = values.index.tolist()
    rows = []
    for place, (mode, share) in enumerate(keys):
        row, jobs = values.iloc[place], sizes[mode, share]
        low, high, _ = mean_interval(row.to_numpy(dtype=float), bootstraps, seed)
        rows.append(
            {"mode": mode, "target_data_pct": float(share), "score": row.mean(), "low": low,
             "high": high, "n_targets": int(row.notna().sum()),
             "n_jobs": len(jobs), "n_train": float(jobs.mean())}
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(CURVE_COLUMNS))
    order = {mode: place for place, mode in enumerate(MODES)}
    return table.sort_values(
        ["mode", "target_data_pct"], key=lambda c: c.map(order) if c.name == "mode" else c
    ).reset_index(drop=True)


def compare_modes(
    scored: pd.DataFrame, score: str, bootstraps: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Compare modes in pairs on the same targets, at each share and over all shares.

    The test is Wilcoxon's signed-rank test, exact for few targets. The comparisons over all
    shares are one family and those at single shares another; in each, p values are corrected by
    Holm's method (1979). With a handful of targets no single share can pass: the smallest p of
    an exact test of n targets is 2 / 2ⁿ.

    Parameters
    ----------
    scored, score, bootstraps, seed
        As for `learning_curves`.

    Returns
    -------
    pandas.DataFrame
        `first`, `second`, `target_data_pct` (a share, or all), `ahead_by` (positive: the first is
        better) with the ends of its 95 % interval over targets, `ahead_in` of `n_targets`, `p`,
        `p_holm`.
    """
    values = by_target(scored, score)
    sign = 1.0 if scorer_of(score).greater_is_better else -1.0
    rows = []
    modes = [mode for mode in MODES if mode in set(values.index.get_level_values(0))]
    for first, second in combinations(modes, 2):
        apart = (sign * (values.xs(first) - values.xs(second))).dropna(how="all")
        pieces: dict[Any, Any] = {share: apart.loc[share] for share in apart.index}
        if len(apart) > 1:
            pieces[ALL_SHARES] = apart.mean(axis=0)
        rows += [
            {"first": first, "second": second, "target_data_pct": share,
             **_paired(differences.dropna().to_numpy(dtype=float), bootstraps, seed)}
            for share, differences in pieces.items()
        ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    overall = (table["target_data_pct"] == ALL_SHARES).to_numpy()
    p, corrected = table["p"].to_numpy(dtype=float), np.full(len(table), np.nan)
    for family in (overall, ~overall):
        corrected[family] = holm(p[family])
    return table.assign(p_holm=corrected)


def _paired(differences: np.ndarray, bootstraps: int, seed: int) -> dict[str, Any]:
    from scipy.stats import wilcoxon

    low, high, _ = mean_interval(differences, bootstraps, seed)
    p = np.nan
    if len(differences) > 1:
        p = 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)
    return {
        "ahead_by": differences.mean() if len(differences) else np.nan,
        "low": low,
        "high": high,
        "ahead_in": int((differences > 0).sum()),
        "n_targets": len(differences),
        "p": p,
    }


def measured_savings(scored: pd.DataFrame) -> Savings:
    """Add up what finished jobs took, and what they would have without shared bases."""
    done = scored[scored["status"] == "done"]
    bases = done[done["kind"] == "base"].set_index("hash")["seconds"].astype(float)
    tuned = done[done["kind"] == "finetune"]
    tuning = float(tuned["seconds"].astype(float).sum())
    own = float(tuned["base_hash"].map(bases).astype(float).sum()) if len(tuned) else 0.0
    used = float(bases.sum())
    return Savings(
        used, tuning, own + tuning, (used + tuning) / (own + tuning) if own + tuning else np.nan,
        len(bases), len(tuned),
    )  # fmt: skip


def compared_score(is_regression: bool) -> str:
    """Name the score that curves and comparisons are of."""
    return main_metric(is_regression)
