"""Compare ways of fine-tuning, and baselines, over folds and seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hbn_foundation.evaluation.methods import SCRATCH, display_name
from hbn_foundation.evaluation.params import FINE_TUNING_BASELINES
from hbn_foundation.evaluation.scorers import OF_NUMBERS, scorer_of
from hbn_foundation.evaluation.statistics import compare, holm

SAMPLE = ("n_train", "train_windows", "fitted_windows", "n_test", "n_windows", "n_channels")
COSTS = ("epochs", "seconds", "trainable")
SUMMARY_COLUMNS = (
    "method", "name", "is_baseline", "score", "score_sd", "seed_sd", "validation", *COSTS,
    "folds", "seeds", "reference", "ahead_by", "ahead_low", "ahead_high", "ahead_in",
    "p", "p_holm", "missing", *SAMPLE,
)  # fmt: skip


def is_baseline(method: str) -> bool:
    """Tell a baseline from a way of fine-tuning."""
    return method in FINE_TUNING_BASELINES


def comparison_table(
    folds: pd.DataFrame, score: str, *, reference: str | None = None
) -> pd.DataFrame:
    """One row per method, best first: scores, costs, and how far the best plan is ahead of it.

    Seeds are averaged in each fold before anything is compared, for they are no further subjects.

    Parameters
    ----------
    folds
        One row per `repeat`, `fold`, `seed` and `method` with `n_train`, `n_test` (subjects), the
        score, and where known `validation` (its value on validation subjects), `epochs`,
        `seconds`, `trainable`.
    score
        Name of the column that is compared. Where few subjects are tested per fold, their
        numbers may lie close together and `nrmse` explode; `mae` does not.
    reference
        The method that is compared with the others; by default the plan that starts from
        pretrained weights and is best on validation subjects.

    Returns
    -------
    pandas.DataFrame
        `score` mean and `score_sd` (ddof 1) over folds; `seed_sd`, the mean standard deviation
        over seeds within a fold; costs; `ahead_by` of the reference (positive: the reference is
        better) with the ends of its 95 % interval, in how many folds, `p` of the corrected
        resampled t-test and `p_holm`, corrected over the rows; `missing`, why there is no
        interval; `SAMPLE`, mean subjects, windows and channels of a fold.
    """
    if folds.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    sign = 1.0 if scorer_of(score).greater_is_better else -1.0
    best = reference or best_plan(folds, score)
    by_fold = sign * folds.pivot_table(
        index=["repeat", "fold"], columns="method", values=score, aggfunc="mean", dropna=False
    )
    ratio = float((folds["n_test"] / folds["n_train"]).mean())
    numbers = score.removeprefix("recording_") in OF_NUMBERS
    rows = []
    for method, part in folds.groupby("method"):
        of_seeds, of_fold = part.groupby(["repeat", "fold"])[score], sign * by_fold[method]
        row: dict[str, Any] = {
            "method": method, "name": display_name(str(method), numbers),
            "is_baseline": is_baseline(str(method)),
            "score": of_fold.mean(), "score_sd": of_fold.std(ddof=1),
            "seed_sd": of_seeds.std(ddof=1).mean(), "folds": len(of_seeds),
            "seeds": part["seed"].nunique(), "reference": method == best,
        }  # fmt: skip
        row |= {name: part[name].mean() for name in ("validation", *COSTS, *SAMPLE) if name in part}
        if method != best:
            found = compare(by_fold[best].to_numpy(), by_fold[method].to_numpy(), ratio)
            ends = dict(zip(("ahead_low", "ahead_high", "missing"), found.interval, strict=True))
            row |= ends | {"ahead_by": found.difference, "ahead_in": found.wins, "p": found.p}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    order = (-sign * table["score"]).argsort(kind="stable")
    return table.iloc[order].reset_index(drop=True)


def best_plan(folds: pd.DataFrame, score: str) -> str:
    """Choose a way of fine-tuning by its mean score on validation subjects.

    By the test score where `validation` is not known; a plan from scratch only where there is no
    other, any method where there is no plan.
    """
    by = "validation" if "validation" in folds and folds["validation"].notna().any() else score
    means = folds.groupby("method")[by].mean().dropna()
    plans = [name for name in means.index if not is_baseline(name)]
    candidates = [name for name in plans if name != SCRATCH] or plans or list(means.index)
    if not candidates:
        return str(folds["method"].iloc[0])
    of_these = means[candidates]
    return str(of_these.idxmax() if scorer_of(score).greater_is_better else of_these.idxmin())
