"""Ways of fine-tuning are compared in pairs, by fold, over subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.comparison import compare
from hbn_foundation.evaluation.finetuning_bootstrap import long_predictions, resampled_scores
from hbn_foundation.evaluation.finetuning_comparison import (
    best_plan,
    comparison_table,
    pairs_table,
)
from hbn_foundation.evaluation.finetuning_report import comparison_text, count, verdict

N_FOLDS = 5
SKILL = {"two_phase": 2.0, "head_only": 1.5, "scratch": 0.8, "riemann": 1.0, "majority": 0.0}


def simulated(skill=SKILL, seeds=2, n_subjects=20, numbers=False):
    """Folds and predictions of methods whose log odds follow the truth more or less."""
    random = np.random.default_rng(0)
    folds, predictions = [], []
    for fold in range(N_FOLDS):
        subjects = np.repeat([f"{s:02}" for s in range(n_subjects)][fold::N_FOLDS], 20)
        values = np.tile([0, 1], len(subjects) // 2)
        for method, gain in skill.items():
            for seed in range(1 if method in ("riemann", "majority") else seeds):
                noise = random.normal(size=len(subjects)) if gain else 0.0
                odds = gain * (values - 0.5) + noise
                answer = odds if numbers else np.stack([-odds / 2, odds / 2], 1)
                place = {"repeat": 0, "fold": fold, "seed": seed, "method": method}
                part = long_predictions(place, subjects, values, answer)
                predictions.append(part)
                score = resampled_point(part)
                folds.append(
                    {**place, "window_auroc": score, "validation": score, "epochs": 5,
                     "seconds": 10.0, "trainable": 1000, "n_train": 12, "n_test": 4}
                )  # fmt: skip
    return pd.DataFrame(folds), pd.concat(predictions, ignore_index=True)


def resampled_point(part):
    from hbn_foundation.evaluation.finetuning import score_windows

    columns = [name for name in part if name.startswith("log_p_")]
    score = "window_auroc" if columns else "nrmse"
    return score_windows(part["value"].to_numpy(), part[columns or "predicted"].to_numpy(), score)


def test_the_table_is_what_the_folds_say():
    folds, predictions = simulated()
    table = comparison_table(folds, "window_auroc", predictions, bootstraps=50)
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
    assert row["p"] == pytest.approx(expected.p)
    assert (row["ahead_in"], row["folds"]) == (expected.wins, N_FOLDS)
    assert row["ahead_low"] < row["ahead_by"] < row["ahead_high"]
    assert np.isnan(by_method.loc["two_phase", "p"])
    assert by_method.loc["majority", "ahead_low"] > 0


def test_smaller_errors_are_ahead():
    folds, _ = simulated()
    folds["nrmse"] = 1 - folds["window_auroc"]
    folds["validation"] = folds["nrmse"]
    table = comparison_table(folds, "nrmse")
    assert table["method"].iloc[0] == "two_phase"
    assert (table["ahead_by"].dropna() > 0).all()
    assert table["ahead_low"].isna().all()


def test_the_reference_is_chosen_on_validation_subjects_and_never_from_scratch():
    folds, _ = simulated()
    folds.loc[folds["method"] == "head_only", "validation"] = 0.99
    folds.loc[folds["method"].isin(["scratch", "riemann"]), "validation"] = 1.0
    assert best_plan(folds, "window_auroc") == "head_only"
    assert best_plan(folds[folds["method"] == "scratch"], "window_auroc") == "scratch"
    assert best_plan(folds[folds["method"] == "riemann"], "window_auroc") == "riemann"


def test_a_resample_of_everyone_once_is_the_score(monkeypatch):
    folds, predictions = simulated(seeds=1)

    class Once:
        def multinomial(self, n, shares, size):
            return np.ones((size, n), dtype=int)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Once())
    resampled = resampled_scores(predictions, "window_auroc", 2)
    expected = folds.set_index(["method", "repeat", "fold"])["window_auroc"]
    np.testing.assert_allclose(resampled[0], expected.reindex(resampled.index))


def test_intervals_allow_for_what_windows_of_a_subject_share():
    # one subject carries the whole difference: the interval must reach zero
    folds, predictions = simulated({"two_phase": 1.0, "riemann": 1.0}, seeds=1)
    ours = predictions["method"] == "two_phase"
    columns = ["log_p_0", "log_p_1"]
    predictions.loc[ours, columns] = predictions.loc[~ours, columns].to_numpy()
    lucky = ours & (predictions["subject"] == "03")
    right = np.eye(2)[predictions.loc[lucky, "value"]]
    predictions.loc[lucky, columns] = 5 * right
    pairs = pairs_table(folds, "window_auroc", predictions, bootstraps=200)
    row = pairs[(pairs["first"] == "two_phase") & (pairs["second"] == "riemann")].iloc[0]
    assert row["ahead_low"] <= 1e-12
    assert row["ahead_high"] > 0.005


def test_numbers_are_resampled_too():
    _, predictions = simulated(numbers=True, seeds=1)
    predictions["value"] = predictions["value"].astype(float)
    resampled = resampled_scores(predictions, "mae", 5)
    assert resampled.loc["two_phase"].notna().all().all()


def test_few_subjects_give_no_interval():
    folds, predictions = simulated(n_subjects=5)
    few = predictions[predictions["subject"] < "04"]
    assert resampled_scores(few, "window_auroc", 10).empty
    table = comparison_table(folds, "window_auroc", few, bootstraps=10)
    assert table["ahead_low"].isna().all()


def test_text_says_who_wins():
    folds, predictions = simulated()
    table = comparison_table(folds, "window_auroc", predictions, bootstraps=50)
    text = comparison_text(table, "window_auroc", "rest against arithmetic")
    assert max(map(len, text.splitlines())) <= 110
    assert "two phases *" in text
    assert "The best plan (two phases) is ahead of the best baseline, Riemannian broadband" in text
    assert "ahead of training from scratch" in " ".join(text.split())
    losing = comparison_table(folds, "window_auroc", reference="scratch")
    assert "is NOT ahead of the best baseline, Riemannian broadband" in verdict(losing)
    assert "no fold" in comparison_text(comparison_table(folds[:0], "window_auroc"), "nrmse")


def test_counts_are_short():
    assert [count(n) for n in (12, 4100, 3.2e6, np.nan)] == ["12", "4.1 k", "3.2 M", ""]
