"""Folds of subjects, and tables of methods over them: what a fold gives, how methods compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.methods import PRETRAINED, SCRATCH, display_name
from hbn_foundation.evaluation.params import FINE_TUNING_BASELINES, RepeatParams
from hbn_foundation.evaluation.scorers import OF_NUMBERS, scorer_of
from hbn_foundation.evaluation.statistics import compare, holm
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.scores import WITHIN

SAMPLE = ("n_train", "train_windows", "fitted_windows", "n_test", "n_windows", "n_channels")
COSTS = ("epochs", "seconds", "trainable")
COMPARED = ("ahead_by", "ahead_low", "ahead_high", "ahead_in", "p", "p_holm", "missing")
SUMMARY_COLUMNS = (
    "method", "name", "is_baseline", "score", "score_sd", "seed_sd", "validation", *COSTS,
    "folds", "seeds", "reference", *COMPARED, *SAMPLE,
)  # fmt: skip
SCORES = ("window_auroc", "recording_auroc", "balanced_accuracy", "validation_auroc")
FOLD_COLUMNS = (
    "repeat", "fold", "method", *SCORES, "pretext_improvement", "windows_per_second", "n_train",
    "n_test",
)  # fmt: skip
PROBE_COLUMNS = (
    "method", "name", "is_baseline", "reference",
    *(f"{score}{end}" for score in SCORES[:3] for end in ("", "_sd")),
    *COMPARED, "folds", "seeds",
    "n_train", "n_test", "pretext_improvement", "pretext_improvement_low",
    "pretext_improvement_high", "windows_per_second",
)  # fmt: skip


def deal(
    subjects: Iterable[str],
    participants: pd.DataFrame,
    repeats: RepeatParams,
    label: LabelParams,
    stratify: str | None,
) -> Iterator[tuple[str, dict[str, int], pd.DataFrame]]:
    """Yield the name of each fold, its `repeat` and `fold`, and its splits."""
    table = repeated_splits(
        list(subjects), repeats.folds, repeats.repeats, repeats.seed, participants=participants,
        label=label, stratify=stratify,
    )  # fmt: skip
    for _, part in table.groupby(["repeat", "fold"]):
        repeat, fold = int(part["repeat"].iloc[0]), int(part["fold"].iloc[0])
        splits = part[["subject", "split"]].reset_index(drop=True)
        yield f"repeat {repeat + 1} fold {fold + 1}", {"repeat": repeat, "fold": fold}, splits


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


def fold_rows(repeat: int, fold: int, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one fold, one per method, from the metrics of its evaluation."""
    pretraining = {
        "pretext_improvement": metrics["pretext"]["test"].get("improvement"),
        "windows_per_second": metrics.get("training", {}).get("windows_per_second"),
    }
    counts = {f"n_{split}": metrics["subjects"][split] for split in ("train", "test")}
    return [
        {
            "repeat": repeat,
            "fold": fold,
            "method": method,
            **{name: scores.get(name) for name in SCORES},
            **{name: scores[name] for name in (WITHIN,) if name in scores},
            **(pretraining if method == PRETRAINED else {}),
            **counts,
        }
        for method, scores in metrics["probe"].items()
    ]


def fold_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Folds as one tidy table with the same columns whether or not there are any."""
    within = [WITHIN] if any(WITHIN in row for row in rows) else []
    numbers = [*within, *SCORES, "pretext_improvement", "windows_per_second"]
    columns = [*FOLD_COLUMNS[:3], *within, *FOLD_COLUMNS[3:]]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))


def summarise_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """One row per method, best first: scores, and how the pretrained encoder compares.

    As `comparison_table`, with the pretrained encoder as the reference and mean and standard
    deviation (ddof 1) of each score; for the pretrained encoder mean and range of the pretext
    improvement, and the mean speed of its training. `folds` is as `cross_validate` returns it.
    """
    if folds.empty:
        return pd.DataFrame(columns=list(PROBE_COLUMNS))
    ours = PRETRAINED if PRETRAINED in set(folds["method"]) else None
    shown = [*([WITHIN] if WITHIN in folds else []), *SCORES[:3]]
    table = comparison_table(folds.assign(seed=0), shown[0], reference=ours).set_index("method")
    of_method = folds.groupby("method")
    for score in shown:
        table[score], table[f"{score}_sd"] = of_method[score].mean(), of_method[score].std(ddof=1)
    gain = of_method["pretext_improvement"].agg(["mean", "min", "max"])
    for end, values in zip(("", "_low", "_high"), gain, strict=True):
        table[f"pretext_improvement{end}"] = gain[values]
    table["windows_per_second"] = of_method["windows_per_second"].mean()
    table["is_baseline"] = table.index != PRETRAINED
    table["name"] = [display_name(str(method)) for method in table.index]
    within = [f"{WITHIN}{end}" for end in ("", "_sd")] if WITHIN in folds else []
    return table.reset_index()[[*PROBE_COLUMNS[:4], *within, *PROBE_COLUMNS[4:]]]
