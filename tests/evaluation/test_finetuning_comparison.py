"""Ways of fine-tuning are compared in pairs, by fold, over subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.finetuning_comparison import (
    best_plan,
    comparison_table,
)
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.statistics import compare, holm

N_FOLDS = 5
SKILL = {"two_phase": 2.0, "head_only": 1.5, "scratch": 0.8, "riemann": 1.0, "majority": 0.0}


def simulated(skill=SKILL, seeds=2, n_subjects=20, numbers=False):
    """Folds of methods whose log odds follow the truth more or less."""
    random = np.random.default_rng(0)
    folds = []
    for fold in range(N_FOLDS):
        subjects = np.repeat([f"{s:02}" for s in range(n_subjects)][fold::N_FOLDS], 20)
        values = np.tile([0, 1], len(subjects) // 2)
        for method, gain in skill.items():
            for seed in range(1 if method in ("riemann", "majority") else seeds):
                noise = random.normal(size=len(subjects)) if gain else 0.0
                odds = gain * (values - 0.5) + noise
                answer = odds if numbers else np.stack([-odds / 2, odds / 2], 1)
                place = {"repeat": 0, "fold": fold, "seed": seed, "method": method}
                score = scorer_of("nrmse" if numbers else "window_auroc").function(values, answer)
                folds.append(
                    {**place, "window_auroc": score, "validation": score, "epochs": 5,
                     "seconds": 10.0, "trainable": 1000, "n_train": 12, "n_test": 4,
                     "train_windows": 2400, "fitted_windows": 2000, "n_windows": 80,
                     "n_channels": 129}
                )  # fmt: skip
    return pd.DataFrame(folds)


def test_the_table_is_what_the_folds_say():
    folds = simulated()
    table = comparison_table(folds, "window_auroc")
    by_method = table.set_index("method")
    assert table["method"].iloc[0] == "two_phase"
    assert table["score"].is_monotonic_decreasing
    assert by_method["reference"].idxmax() == "two_phase"
    assert by_method.loc["riemann", "is_baseline"]
    assert not by_method.loc["scratch", "is_baseline"]
    of_fold = folds.groupby(["method", "fold"])["window_auroc"].mean()
    assert by_method.loc["head_only", "score"] == pytest.approx(of_fold["head_only"].mean())
    assert by_method.loc["head_only", "score_sd"] == pytest.approx(of_fold["head_only"].std())
    # seeds are averaged before the test: they are no further subjects
    expected = compare(of_fold["two_phase"].to_numpy(), of_fold["riemann"].to_numpy(), 4 / 12)
    row = by_method.loc["riemann"]
    assert tuple(row[["ahead_low", "ahead_high"]]) == pytest.approx(expected.interval[:2])
    assert row["p"] == pytest.approx(expected.p)
    assert (row["ahead_in"], row["folds"]) == (expected.wins, N_FOLDS)
    assert row["ahead_low"] < row["ahead_by"] < row["ahead_high"]
    assert np.isnan(by_method.loc["two_phase", "p"])
    assert by_method.loc["majority", "ahead_low"] > 0


def test_smaller_errors_are_ahead():
    folds = simulated()
    folds["nrmse"] = 1 - folds["window_auroc"]
    folds["validation"] = folds["nrmse"]
    table = comparison_table(folds, "nrmse")
    assert table["method"].iloc[0] == "two_phase"
    assert (table["ahead_by"].dropna() > 0).all()
    assert (table["ahead_low"].dropna() < table["ahead_by"].dropna()).all()


def test_the_reference_is_chosen_on_validation_subjects_and_never_from_scratch():
    folds = simulated()
    folds.loc[folds["method"] == "head_only", "validation"] = 0.99
    folds.loc[folds["method"].isin(["scratch", "riemann"]), "validation"] = 1.0
    assert best_plan(folds, "window_auroc") == "head_only"
    assert best_plan(folds[folds["method"] == "scratch"], "window_auroc") == "scratch"
    assert best_plan(folds[folds["method"] == "riemann"], "window_auroc") == "riemann"


def test_p_values_of_the_rows_are_corrected_by_holm():
    table = comparison_table(simulated(), "window_auroc").set_index("method")
    p = table["p"].to_numpy(dtype=float)
    np.testing.assert_allclose(table["p_holm"], holm(p))
    assert np.nanmax(table["p_holm"] / table["p"]) >= 3.99  # of four comparisons


def test_a_fold_without_a_score_leaves_the_pair_without_an_interval():
    folds = simulated(seeds=1)
    folds.loc[folds["fold"] == 2, "window_auroc"] = np.nan  # its subjects have one class
    table = comparison_table(folds, "window_auroc")
    others = table[~table["reference"]]
    assert others[["ahead_low", "ahead_high", "p", "p_holm"]].isna().all(axis=None)
    assert set(others["missing"]) == {"1 of 5 folds without a score"}


def test_equal_methods_are_level():
    folds = simulated(seeds=1)
    ours = folds[folds["method"] == "two_phase"]
    folds = pd.concat([ours, ours.assign(method="riemann")], ignore_index=True)
    table = comparison_table(folds, "window_auroc")
    assert table["p"].isna().all()
    assert table["ahead_in"].max() == 0
