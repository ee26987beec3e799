"""Baselines find what is planted, in the split they may look at, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from challenge_tables import FACTORS

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge import features
from hbn_foundation.evaluation.challenge.factor_baselines import factor_baselines
from hbn_foundation.evaluation.challenge.factors import evaluate_factors
from hbn_foundation.evaluation.challenge.features import time_bins
from hbn_foundation.evaluation.challenge.params import (
    BoostingParams,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import (
    evaluate_response_times,
    response_time_scores,
)
from hbn_foundation.evaluation.challenge.response_time_baselines import response_time_baselines

PARAMS = ResponseTimeEvaluationParams(
    bootstraps=100, boosting=BoostingParams(leaves=(4,), max_trees=40, learning_rate=0.1)
)
FACTOR_PARAMS = FactorEvaluationParams(bootstraps=100)
WITHOUT_EEG = {"constant", "median", "age_sex"}


@pytest.fixture(scope="module")
def answered(planted, random_encoder):
    return response_time_baselines(*planted, PARAMS, 200, random_encoder)


def intervals(test, answers):
    found = {name: response_time_scores(test, answer, 0.8, 100) for name, answer in answers.items()}
    return {
        name: {key: (score.value, *score.interval[:2]) for key, score in of_method.items()}
        for name, of_method in found.items()
    }


def test_every_baseline_answers_every_test_window(planted, answered):
    test, answers = answered
    held = planted.splits.loc[planted.splits["split"] == "test", "subject"]
    assert set(test["subject"]) == set(held)
    assert len(test) == planted.windows["subject"].isin(held).sum()
    assert set(answers) == set(PARAMS.baselines)
    for answer in answers.values():
        assert answer.shape == (len(test), 2)
        assert answer["p_correct"].between(0, 1).all()
        assert answer["predicted_rt"].between(0, 4).all()


def test_what_is_planted_is_found(answered):
    found = intervals(*answered)
    for name in ("time_bins", "boosted_trees"):
        assert found[name]["nrmse"][2] < 0.95
        assert found[name]["within_r"][1] > 0.3
    assert found["time_bins"]["nrmse"][0] < found["band_power"]["nrmse"][0]
    assert found["time_bins"]["auroc"][1] > 0.5
    for name in WITHOUT_EEG:
        assert found[name]["nrmse"][0] >= 0.999


def test_shuffled_labels_give_a_constant_and_chance(planted):
    """Permute inside each subject: what is left in the labels is not in the EEG."""
    random = np.random.default_rng(1)
    windows = planted.windows.copy()
    order = windows.groupby("subject", sort=False)["rt"].transform(
        lambda values: random.permutation(values.index)
    )
    for name in ("rt", "correct"):
        windows[name] = windows[name].to_numpy()[order.astype(int)]
    test, answers = response_time_baselines(
        planted.store, windows, planted.splits, planted.people, PARAMS, 200
    )
    for name, scores in intervals(test, answers).items():
        value, low, high = scores["nrmse"]
        assert low < 1.01, name
        assert high >= 1, name
        assert value == pytest.approx(1, abs=0.05), name
        value, low, high = scores["auroc"]
        assert value == 0.5 or low <= 0.5 <= high, name


def test_nothing_of_the_test_subjects_is_used(planted, answered, random_encoder):
    test, answers = answered
    held = planted.windows["subject"].isin(test["subject"])
    windows = planted.windows.copy()
    windows.loc[held, "rt"] = np.linspace(0.3, 2.4, held.sum())
    windows.loc[held, "correct"] = np.arange(held.sum()) % 2
    people = planted.people.copy()
    _, again = response_time_baselines(
        planted.store, windows, planted.splits, people, PARAMS, 200, random_encoder
    )
    for name, answer in answers.items():
        pd.testing.assert_frame_equal(answer, again[name])


def test_windows_are_answered_alike_a_few_at_a_time(planted, answered, monkeypatch):
    monkeypatch.setattr(features, "MOST_AT_ONCE", 7)
    few = ResponseTimeEvaluationParams(baselines=("filter_bank", "time_bins"), bootstraps=0)
    _, answers = response_time_baselines(
        planted.store, planted.windows, planted.splits, planted.people, few, 200
    )
    _, whole = answered
    pd.testing.assert_frame_equal(answers["time_bins"], whole["time_bins"], rtol=1e-4)
    monkeypatch.undo()
    _, once = response_time_baselines(
        planted.store, planted.windows, planted.splits, planted.people, few, 200
    )
    pd.testing.assert_frame_equal(answers["filter_bank"], once["filter_bank"], rtol=1e-4)


def test_time_bins_are_means_over_time(planted):
    few = planted.windows.head(3)
    bins = time_bins(planted.store, few, 200, 0.05, 2).reshape(3, 19, 40)
    signal = np.asarray(planted.store.signal(0), np.float32)
    start = int(few["start"].iloc[1])
    np.testing.assert_allclose(bins[1, 4, 7], signal[start + 35 : start + 40, 4].mean(), rtol=1e-4)
    assert time_bins(planted.store, few, 200, 0.07, 2).shape == (3, 19 * 28)


def test_success_always_the_same_is_no_obstacle(planted):
    windows = planted.windows.assign(correct=1.0)
    few = ResponseTimeEvaluationParams(bootstraps=0, baselines=("age_sex", "time_bins"))
    _, answers = response_time_baselines(
        planted.store, windows, planted.splits, planted.people, few, 200
    )
    assert (answers["time_bins"]["p_correct"] == 1).all()


def test_the_model_stands_beside_its_baselines(planted):
    test = planted.windows[planted.windows["subject"] >= "s16"]
    random = np.random.default_rng(0)
    near = test.assign(predicted_rt=1.6 + 0.8 * (test["rt"] - 1.6), p_correct=0.5)
    far = near.assign(predicted_rt=random.uniform(1, 2, len(test))).drop(columns="p_correct")
    unasked = far.assign(p_correct=np.nan)  # as of a model without success among its targets
    params = ResponseTimeEvaluationParams(bootstraps=60, baselines=("constant", "median"))
    result = evaluate_response_times(near, *planted, params, 200,
                                     others={"scratch": far, "unasked": unasked})  # fmt: skip
    table = result.scores.set_index("method")
    assert table.index[0] == "fine_tuned"
    assert table["kind"].tolist()[-2:] == ["reference"] * 2
    assert table.loc["constant", "nrmse_ahead_low"] > 0
    assert np.isnan(table.loc["fine_tuned", "nrmse_ahead"])
    assert np.isnan(table.loc["scratch", "auroc"])
    assert np.isnan(table.loc["unasked", "auroc"])
    assert table.loc["unasked", "nrmse"] == table.loc["scratch", "nrmse"]
    assert table.loc["scratch", "name"] == "from scratch"
    metrics = result.metrics
    assert metrics["n_windows"] == metrics["n_success_known"] == len(test)
    assert metrics["n_wrong"] == (test["correct"] == 0).sum()
    assert metrics["interval_missing"] == ""
    assert metrics["test"]["scratch"]["auroc"] is None
    train = planted.windows[planted.windows["subject"] < "s12"]
    assert metrics["success_threshold"] == pytest.approx(train["correct"].mean())
    assert set(result.answers["method"]) == set(table.index)
    with pytest.raises(UserError, match="has no prediction"):
        evaluate_response_times(near.iloc[1:], *planted, params, 200)
    with pytest.raises(UserError, match="is no test window"):
        evaluate_response_times(planted.windows.assign(predicted_rt=1.0), *planted, params, 200)


def test_a_trait_in_the_eeg_is_found_and_age_and_sex_are_not_taken_for_it(planted, random_encoder):
    test, answers = factor_baselines(*planted, FACTORS, FACTOR_PARAMS, 200, random_encoder)
    assert set(answers) == set(FACTOR_PARAMS.baselines)
    truth = test["externalizing"]
    for name, answer in answers.items():
        assert answer.shape == (len(test), 4)
        if name in ("band_power", "filter_bank"):
            assert np.corrcoef(truth, answer[:, 3])[0, 1] > 0.5
    train = planted.people.head(12)
    assert (answers["constant"][:, 3] == train["externalizing"].mean()).all()
    assert (answers["median"][:, 0] == train["p_factor"].median()).all()
    assert len(np.unique(answers["age_sex"][:, 0])) == test["subject"].nunique()


def test_factors_of_the_model_stand_beside_its_baselines(planted):
    people = planted.people.copy()
    people.loc[people["subject"] == "s20", list(FACTORS)] = np.nan
    windows = planted.windows[["row", "recording", "subject", "task", "run", "start"]]
    test = windows[(windows["subject"] >= "s16") & (windows["subject"] != "s20")]
    truth = people.set_index("subject").loc[test["subject"]]
    near = test.assign(**{f"predicted_{f}": 0.9 * truth[f].to_numpy() for f in FACTORS})
    data = planted._replace(people=people, windows=windows)
    params = FactorEvaluationParams(bootstraps=60, baselines=("constant", "age_sex"))
    result = evaluate_factors(near, *data, FACTORS, params, 200)
    table = result.scores.set_index(["factor", "method"])
    assert len(table) == 5 * 3
    assert table.loc[("externalizing", "constant"), "window_nrmse_ahead_low"] > 0
    assert table.loc[("mean", "fine_tuned"), "calibration_slope"] == pytest.approx(1 / 0.9)
    assert result.metrics["n_subjects"] == 11
    assert len(result.subjects) == 3 * 11
    unknown = planted._replace(people=people.assign(attention=np.nan))
    with pytest.raises(UserError, match="attention is known of 0 train subjects"):
        evaluate_factors(near, *unknown, FACTORS, params, 200)
