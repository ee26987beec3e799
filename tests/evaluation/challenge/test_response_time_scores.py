"""Response times and success are scored as the challenge and the textbooks do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics
from challenge_tables import response_time_table
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.response_time import (
    reference_answers,
    response_time_scores,
    success_scores,
)
from hbn_foundation.evaluation.challenge.scoring import ahead, best_first, lower_is_better
from hbn_foundation.evaluation.challenge.windows import matched

COLUMNS = ["predicted_rt", "p_correct"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return response_time_table()


def values_of(table, bootstraps=0, answer=None):
    found = response_time_scores(table, table if answer is None else answer, 0.85, bootstraps)
    return {name: score.value for name, score in found.items()}, found


def test_scores_are_those_of_other_libraries(table):
    found, _ = values_of(table)
    true, predicted = (torch.tensor(table[name].to_numpy()) for name in ("rt", "predicted_rt"))
    of = torchmetrics.functional
    assert found["r2"] == pytest.approx(of.r2_score(predicted, true).item())
    assert found["nrmse"] == pytest.approx(
        (of.mean_squared_error(predicted, true).sqrt() / true.std(correction=0)).item()
    )
    assert found["nrmse"] ** 2 == pytest.approx(1 - found["r2"])
    assert found["r"] == pytest.approx(of.pearson_corrcoef(predicted, true).item())
    assert found["mae"] == pytest.approx(of.mean_absolute_error(predicted, true).item())
    correct = table["correct"].astype(int)
    assert found["auroc"] == pytest.approx(roc_auc_score(correct, table["p_correct"]))
    called = (table["p_correct"] > 0.85).astype(int)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(correct, called))
    # the model sees trials and not subjects: more is explained inside a subject than of all
    assert found["within_r"] > found["r"] > 0.3


def test_intervals_hold_the_score_and_are_wider_than_those_of_windows(table):
    _, found = values_of(table, bootstraps=200)
    for score in found.values():
        assert score.interval.low < score.value < score.interval.high
    one_each = table.assign(subject=[f"s{k}" for k in range(len(table))])
    own = response_time_scores(one_each, one_each, 0.85, 200)
    width = found["nrmse"].interval.high - found["nrmse"].interval.low
    assert width > 1.2 * (own["nrmse"].interval.high - own["nrmse"].interval.low)


def test_a_constant_scores_one_and_chance(table):
    answer = table.assign(predicted_rt=table["rt"].mean(), p_correct=0.9)
    found, scores = values_of(table, 50, answer)
    assert found["nrmse"] == pytest.approx(1.0)
    assert found["auroc"] == 0.5
    assert np.isnan(found["r"])
    assert np.isnan(found["within_r"])
    assert "have no score" in scores["r"].interval.missing
    # no other constant errs less: every resample scores above one
    assert scores["nrmse"].draws.min() >= 1.0
    assert "outside those of its resamples" in scores["nrmse"].interval.missing


def test_what_is_not_known_or_not_predicted_is_left_out(table):
    half = table.assign(correct=table["correct"].where(np.arange(len(table)) % 2 == 0))
    found, _ = values_of(half)
    known = half.dropna()
    assert found["auroc"] == pytest.approx(roc_auc_score(known["correct"], known["p_correct"]))
    assert found["nrmse"] == values_of(table)[0]["nrmse"]
    none, _ = values_of(table, 20, table.assign(p_correct=np.nan))
    assert np.isnan(none["auroc"])


def test_few_subjects_have_no_interval(table):
    few = table[table["subject"].isin(["s00", "s01"])]
    _, found = values_of(few, 50)
    assert np.isnan(found["nrmse"].interval.low)
    assert found["nrmse"].interval.missing == "2 test subjects, an interval needs 10"


def test_the_better_method_is_ahead_in_either_direction(table):
    _, ours = values_of(table, 100)
    worse = table.assign(
        predicted_rt=table["predicted_rt"].sample(frac=1, random_state=0).to_numpy(),
        p_correct=table["p_correct"].sample(frac=1, random_state=0).to_numpy(),
    )
    _, theirs = values_of(table, 100, worse)
    for name in ("nrmse", "auroc"):
        gap, interval = ahead(ours[name], theirs[name], name)
        assert 0 < interval.low < gap < interval.high
        back, ends = ahead(theirs[name], ours[name], name)
        assert (back, ends.low) == pytest.approx((-gap, -interval.high))
    assert lower_is_better("window_nrmse")
    assert not lower_is_better("within_r")
    order = pd.DataFrame({"method": list("abc"), "nrmse": [0.9, 0.5, 0.8],
                          "kind": ["model", "reference", "baseline"]})  # fmt: skip
    assert best_first(order, "nrmse")["method"].tolist() == ["c", "a", "b"]


def test_references_know_the_subjects_own_answers(table):
    answers = reference_answers(table)
    own = values_of(table, answer=answers["subject_mean"])[0]
    other = values_of(table, answer=answers["other_runs_mean"])[0]
    within = (table["rt"] - table.groupby("subject")["rt"].transform("mean")) ** 2
    assert own["nrmse"] == pytest.approx(np.sqrt(within.mean()) / table["rt"].std(ddof=0))
    assert own["nrmse"] < other["nrmse"] < 1
    first = table["subject"] == "s00"
    second_run = table.loc[first & (table["run"] == 2), "rt"].mean()
    found = answers["other_runs_mean"].loc[first & (table["run"] == 1), "predicted_rt"]
    np.testing.assert_allclose(found, second_run)
    single = table[table["run"] == 1]
    alone = reference_answers(single)["other_runs_mean"]["predicted_rt"]
    np.testing.assert_allclose(alone, single["rt"].mean())


def test_success_in_one_class_has_no_score():
    found = success_scores(np.ones(4, int), np.linspace(0.1, 0.9, 4), 0.5)
    assert np.isnan(found["auroc"])
    assert np.isnan(found["balanced_accuracy"])


def test_predictions_are_brought_into_the_order_of_the_windows(table):
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(matched(shuffled, table, COLUMNS, "x"), table[COLUMNS])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[1:], "has no prediction"),
        (lambda t: pd.concat([t, t.head(1)]), "is predicted twice"),
        (lambda t: pd.concat([t, t.head(1).assign(start=77)]), "is no test window"),
        (lambda t: t.drop(columns="predicted_rt"), "no column predicted_rt"),
        (lambda t: t.assign(predicted_rt=t["predicted_rt"].where(t.index > 0)), "not finite"),
    ],
)
def test_other_windows_than_those_scored_are_refused(table, change, message):
    with pytest.raises(UserError, match=message):
        matched(change(table), table, COLUMNS, "challenge1_predictions")
