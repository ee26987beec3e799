"""Response times and success are scored as the challenge and the textbooks do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from challenge_tables import response_time_table
from sklearn.metrics import (
    balanced_accuracy_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation import baselines
from hbn_foundation.evaluation.evaluate import MISSING, evaluate
from hbn_foundation.evaluation.frame import scores_of
from hbn_foundation.evaluation.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.tasks.challenge_baselines import challenge_baselines
from hbn_foundation.evaluation.tasks.challenges import all_answers
from hbn_foundation.evaluation.tasks.response_times import (
    asked_times,
    reference_answers,
    response_time_task,
    score_response_times,
    success_scores,
)

PARAMS = ResponseTimeEvaluationParams(bootstraps=100)
WITHOUT_EEG = ("constant", "median", "age_sex")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return response_time_table()


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hbn_foundation.evaluation.boosting.MOST_TREES", 60)
        yield


def fitted(trials, params=PARAMS, encoder=None):
    """The windows that are used, and what the baselines predict for those of the test."""
    return challenge_baselines(asked_times(trials), trials, params, 200, encoder)


@pytest.fixture(scope="module")
def answered(trials, random_encoder):
    return fitted(trials, encoder=random_encoder)


def scored(test, answer, bootstraps=0, **more):
    """Scores of one answer by metric, and the table with further ones."""
    task = response_time_task(test, 0.85)
    scores = evaluate(task, {"fine_tuned": answer}, more, n_samples=bootstraps)
    own = scores[scores["method"] == "fine_tuned"].set_index("metric")
    return own, scores


def test_scores_are_those_of_other_libraries(table):
    found = scored(table, table)[0]["value"]
    true, correct, p_correct = table["rt"], table["correct"].astype(int), table["p_correct"]
    assert found["r2"] == pytest.approx(r2_score(true, table["predicted_rt"]))
    assert found["nrmse"] ** 2 == pytest.approx(1 - found["r2"])
    assert found["mae"] == pytest.approx(mean_absolute_error(true, table["predicted_rt"]))
    assert found["auroc"] == pytest.approx(roc_auc_score(correct, p_correct))
    expected = balanced_accuracy_score(correct, p_correct > 0.85)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    # the model sees trials and not subjects: more is explained inside a subject than of all
    assert found["within_r"] > found["r"] > 0.3


def test_a_constant_scores_one_and_chance(table):
    answer = table.assign(predicted_rt=table["rt"].mean(), p_correct=0.9)
    found, scores = scored(table, answer, 50)
    assert found["value"]["nrmse"] == pytest.approx(1.0)
    assert found["value"]["auroc"] == 0.5
    assert np.isnan(found["value"][["r", "within_r"]].to_numpy(float)).all()
    # no other constant errs less: every resample scores above one
    assert "outside those of its resamples" in scores.attrs[MISSING]


def test_what_is_not_known_or_not_predicted_is_left_out(table):
    half = table.assign(correct=table["correct"].where(np.arange(len(table)) % 2 == 0))
    found, _ = scored(half, half)
    known = half.dropna()
    assert found["value"]["auroc"] == pytest.approx(
        roc_auc_score(known["correct"], known["p_correct"])
    )
    assert found["n_windows"]["auroc"] == len(known) < found["n_windows"]["nrmse"]
    assert found["value"]["nrmse"] == scored(table, table)[0]["value"]["nrmse"]
    none, _ = scored(table, table.assign(p_correct=np.nan), 20)
    assert np.isnan(none["value"]["auroc"])
    assert np.isnan(success_scores(np.ones(4, int), np.linspace(0.1, 0.9, 4), 0.5)["auroc"])


def test_references_know_the_subjects_own_answers(table):
    answers = reference_answers(table)
    own, other = (scored(table, answer)[0]["value"]["nrmse"] for answer in answers.values())
    within = (table["rt"] - table.groupby("subject")["rt"].transform("mean")) ** 2
    assert own == pytest.approx(np.sqrt(within.mean()) / table["rt"].std(ddof=0))
    assert own < other < 1
    first = table["subject"] == "s00"
    second_run = table.loc[first & (table["run"] == 2), "rt"].mean()
    found = answers["other_runs_mean"].loc[first & (table["run"] == 1), "predicted_rt"]
    np.testing.assert_allclose(found, second_run)
    single = table[table["run"] == 1]
    alone = reference_answers(single)["other_runs_mean"]["predicted_rt"]
    np.testing.assert_allclose(alone, single["rt"].mean())


def intervals(sample, answers):
    return {name: scored(sample.test, answer, 100)[0] for name, answer in answers.items()}


def test_every_baseline_predicts_every_test_window_and_finds_what_is_planted(trials, answered):
    sample, answers = answered
    test = sample.test
    held = trials.splits.loc[trials.splits["split"] == "test", "subject"]
    assert set(test["subject"]) == set(held)
    assert len(test) == trials.windows["subject"].isin(held).sum()
    assert set(answers) == set(PARAMS.baselines)
    for answer in answers.values():
        assert answer.shape == (len(test), 2)
        assert answer["p_correct"].between(0, 1).all()
    found = intervals(*answered)
    for name in ("time_bins", "boosted_trees"):
        assert found[name].loc["nrmse", "ci_high"] < 0.95
        assert found[name].loc["within_r", "ci_low"] > 0.3
    values = {name: one.loc["nrmse", "value"] for name, one in found.items()}
    assert values["time_bins"] < values["band_power"]
    assert found["time_bins"].loc["auroc", "ci_low"] > 0.5
    assert min(values[name] for name in WITHOUT_EEG) >= 0.999


def test_shuffled_labels_give_a_constant_and_chance(trials):
    """Permute inside each subject: what is left in the labels is not in the EEG."""
    random = np.random.default_rng(1)
    windows = trials.windows.copy()
    order = windows.groupby("subject", sort=False)["rt"].transform(
        lambda values: random.permutation(values.index)
    )
    for name in ("rt", "correct"):
        windows[name] = windows[name].to_numpy()[order.astype(int)]
    found = fitted(trials.replace(windows=windows))
    for name, scores in intervals(*found).items():
        value, low, high = scores.loc["nrmse", ["value", "ci_low", "ci_high"]]
        assert low < 1.01, name
        assert high >= 1, name
        assert value == pytest.approx(1, abs=0.05), name
        value, low, high = scores.loc["auroc", ["value", "ci_low", "ci_high"]]
        assert value == 0.5 or low <= 0.5 <= high, name


def test_nothing_of_the_test_subjects_is_used(trials, answered, random_encoder):
    sample, answers = answered
    held = trials.windows["subject"].isin(sample.test["subject"])
    moved = trials.windows.assign(rt=1.0, correct=0.0)
    windows = trials.windows.where(~held, moved)
    _, again = fitted(trials.replace(windows=windows), encoder=random_encoder)
    for name, answer in answers.items():
        pd.testing.assert_frame_equal(answer, again[name])


def test_windows_are_answered_alike_a_few_at_a_time(trials, monkeypatch):
    few = ResponseTimeEvaluationParams(baselines=("filter_bank", "time_bins"))
    _, whole = fitted(trials, few)
    monkeypatch.setattr(baselines, "MOST_AT_ONCE", 7)
    _, parts = fitted(trials, few)
    for name, answer in whole.items():
        pd.testing.assert_frame_equal(parts[name], answer, rtol=1e-4)


def test_success_always_the_same_is_no_obstacle(trials):
    always = trials.replace(windows=trials.windows.assign(correct=1.0))
    few = ResponseTimeEvaluationParams(bootstraps=0, baselines=("age_sex", "time_bins"))
    _, answers = fitted(always, few)
    assert all((answer["p_correct"] == 1).all() for answer in answers.values())


def test_the_model_stands_beside_its_baselines(trials, tuned):
    test = trials.windows[trials.windows["subject"] >= "s16"]
    random = np.random.default_rng(0)
    near = test.assign(predicted_rt=1.6 + 0.8 * (test["rt"] - 1.6), p_correct=0.5)
    far = near.assign(predicted_rt=random.uniform(1, 2, len(test))).drop(columns="p_correct")
    unasked = far.assign(p_correct=np.nan)  # as of a model without success among its targets
    params = ResponseTimeEvaluationParams(bootstraps=60, baselines=("constant", "median"))
    predictions = {"fine_tuned": near, "scratch": far, "unasked": unasked}
    metrics, scores, answers = score_response_times(
        all_answers(tuned[0], trials, params, predictions), params
    )
    methods = scores["method"].unique().tolist()
    assert methods[0] == "fine_tuned"
    assert set(scores.loc[scores["kind"] == "reference", "method"]) == set(methods[-2:])
    ahead = scores[scores["metric"] == "nrmse_ahead"].set_index("method")
    assert ahead["ci_low"]["constant"] > 0
    assert "fine_tuned" not in ahead.index
    assert np.isnan([scores_of(scores, "auroc")[name] for name in ("scratch", "unasked")]).all()
    assert metrics["n_windows"] == metrics["n_success_known"] == len(test)
    assert metrics["n_wrong"] == (test["correct"] == 0).sum()
    assert metrics["interval_missing"] == ""
    train = trials.windows[trials.windows["subject"] < "s12"]
    assert metrics["success_threshold"] == pytest.approx(train["correct"].mean())
    assert set(answers["method"]) == set(methods)
    with pytest.raises(UserError, match="has no prediction"):
        score_response_times(
            all_answers(tuned[0], trials, params, {"fine_tuned": near.iloc[1:]}), params
        )
