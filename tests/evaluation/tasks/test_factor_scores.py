"""Factors are scored by window and by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from challenge_tables import factor_tables
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, pearsonr

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import evaluate
from hbn_foundation.evaluation.params import FactorEvaluationParams
from hbn_foundation.evaluation.tasks.challenge_baselines import challenge_baselines, people_of
from hbn_foundation.evaluation.tasks.challenges import all_answers
from hbn_foundation.evaluation.tasks.factors import (
    aggregate_windows,
    asked_factors,
    factor_task,
    score_factors,
    subject_predictions,
)
from planted_trials import FACTORS

PREDICTED = [f"predicted_{name}" for name in FACTORS]


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return factor_tables()


def scored(windows, predicted, bootstraps):
    params = FactorEvaluationParams()
    task = factor_task(windows, FACTORS, params)
    table = evaluate(task, {"fine_tuned": predicted}, {}, n_samples=bootstraps)
    return table.set_index(["target", "metric"])


def test_scores_of_windows_and_of_subjects(tables):
    windows, people = tables
    table = scored(windows, windows[PREDICTED].to_numpy(), 60)
    found = table["value"]
    known = windows.dropna()
    whole = subject_predictions(windows, people, FACTORS, FactorEvaluationParams()).dropna()
    for factor, items, table_of in (
        ("externalizing", "window", known),
        ("attention", "subject", whole),
    ):
        true, answer = table_of[factor], table_of[f"predicted_{factor}"]
        error = np.sqrt(((true - answer) ** 2).mean()) / true.std(ddof=0)
        assert found[factor, f"{items}_nrmse"] == pytest.approx(error)
        assert found[factor, f"{items}_r"] == pytest.approx(pearsonr(true, answer).statistic)
    slope = linregress(answer, true).slope
    assert found["attention", "calibration_slope"] == pytest.approx(slope)
    each = [found[name, "subject_r"] for name in FACTORS]
    assert found["mean", "subject_r"] == pytest.approx(np.mean(each))
    assert found.between(table["ci_low"], table["ci_high"], inclusive="neither").all()


def test_age_and_sex_leave_nothing_to_a_prediction_made_of_them(tables):
    windows, _ = tables
    made = np.tile((0.1 * windows["age"] - windows["sex"]).to_numpy()[:, None], (1, 4))
    found = scored(windows, made, 20)["value"]
    assert np.isnan(found["mean", "partial_r"])
    assert np.isfinite(found["mean", "subject_r"])
    rest = scored(windows.assign(age=np.nan), made, 0)["value"]
    assert np.isnan(rest["externalizing", "partial_r"])


def test_the_table_of_subjects(tables):
    windows, people = tables
    table = subject_predictions(windows.iloc[:-3], people, FACTORS, FactorEvaluationParams())
    assert len(table) == 40
    assert table["n_windows"].tolist() == [12] * 39 + [9]
    assert list(table)[:3] == ["subject", "p_factor", "predicted_p_factor"]
    assert list(table)[-3:] == ["n_windows", "age", "sex"]
    assert table["externalizing"].isna().tolist() == [False] * 39 + [True]
    of_first = windows.loc[windows["subject"] == "s00", "predicted_attention"].mean()
    assert table["predicted_attention"].iloc[0] == pytest.approx(of_first)


@given(st.integers(1, 30), st.integers(0, 50), st.sampled_from(["mean", "median"]))
def test_windows_become_one_prediction(n, seed, name):
    values = np.random.default_rng(seed).normal(size=(n, 2))
    params = FactorEvaluationParams(aggregation=name)
    found = aggregate_windows(values, np.repeat(["b"], n), params)
    np.testing.assert_allclose(found.to_numpy()[0], getattr(np, name)(values, 0), atol=1e-12)


def test_a_trait_in_the_eeg_is_found_and_age_and_sex_are_not_taken_for_it(trials, random_encoder):
    params, people = FactorEvaluationParams(), people_of(trials.participants, FACTORS)
    asked = asked_factors(trials, FACTORS)
    sample, found = challenge_baselines(asked, trials, params, 200, random_encoder)
    test, answers = sample.test, {name: table.to_numpy() for name, table in found.items()}
    assert set(answers) == set(params.baselines)
    assert {answer.shape for answer in answers.values()} == {(len(test), 4)}
    for name in ("band_power", "filter_bank"):
        assert np.corrcoef(test["externalizing"], answers[name][:, 3])[0, 1] > 0.5
    train = people.head(12)
    np.testing.assert_allclose(answers["constant"][:, 3], train["externalizing"].mean())
    assert (answers["median"][:, 0] == train["p_factor"].median()).all()
    assert len(np.unique(answers["age_sex"][:, 0])) == test["subject"].nunique()


def test_factors_of_the_model_stand_beside_its_baselines(trials, tuned):
    people = trials.participants.copy()
    people.loc[people["subject"] == "s20", list(FACTORS)] = np.nan
    windows = trials.windows[["row", "recording", "subject", "task", "run", "start"]]
    test = windows[(windows["subject"] >= "s16") & (windows["subject"] != "s20")]
    truth = people.set_index("subject").loc[test["subject"]]
    near = test.assign(**{f"predicted_{f}": 0.9 * truth[f].to_numpy() for f in FACTORS})
    data = trials.replace(participants=people, windows=windows)
    params = FactorEvaluationParams(bootstraps=60, baselines=("constant", "age_sex"))
    metrics, scores, subjects = score_factors(
        all_answers(tuned[0], data, params, {"fine_tuned": near}), params
    )
    assert set(scores["target"]) == {*FACTORS, "mean"}
    found = scores.set_index(["target", "method", "metric"])
    assert found["ci_low"]["externalizing", "constant", "window_nrmse_ahead"] > 0
    assert found["value"]["mean", "fine_tuned", "calibration_slope"] == pytest.approx(1 / 0.9)
    assert metrics["n_subjects"] == 11
    assert len(subjects) == 3 * 11
    unknown = data.replace(participants=people.assign(attention=np.nan))
    with pytest.raises(UserError, match="attention is known of 0 train subjects"):
        score_factors(all_answers(tuned[0], unknown, params, {"fine_tuned": near}), params)
