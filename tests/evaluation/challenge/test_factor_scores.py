"""Factors are scored by window and by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from challenge_tables import FACTORS, factor_tables
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, pearsonr

from hbn_foundation.evaluation.challenge.factors import factor_scores
from hbn_foundation.evaluation.challenge.params import FactorEvaluationParams
from hbn_foundation.evaluation.challenge.subjects import aggregate_windows, subject_predictions

PREDICTED = [f"predicted_{name}" for name in FACTORS]


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return factor_tables()


def test_scores_of_windows_and_of_subjects(tables):
    windows, people = tables
    params = FactorEvaluationParams(bootstraps=60)
    found = factor_scores(windows, windows[PREDICTED].to_numpy(), FACTORS, params)
    known = windows.dropna()
    true, answer = known["externalizing"], known["predicted_externalizing"]
    error = np.sqrt(((true - answer) ** 2).mean()) / true.std(ddof=0)
    assert found["externalizing.window_nrmse"].value == pytest.approx(error)
    assert found["externalizing.window_r"].value == pytest.approx(pearsonr(true, answer).statistic)
    whole = subject_predictions(windows, people, FACTORS, params).dropna()
    true, answer = whole["attention"], whole["predicted_attention"]
    error = np.sqrt(((true - answer) ** 2).mean()) / true.std(ddof=0)
    assert found["attention.subject_nrmse"].value == pytest.approx(error)
    assert found["attention.subject_r"].value == pytest.approx(pearsonr(true, answer).statistic)
    slope = linregress(answer, true).slope
    assert found["attention.calibration_slope"].value == pytest.approx(slope)
    each = [found[f"{name}.subject_r"].value for name in FACTORS]
    assert found["mean.subject_r"].value == pytest.approx(np.mean(each))
    for score in found.values():
        assert score.interval.low < score.value < score.interval.high


def test_age_and_sex_leave_nothing_to_a_prediction_made_of_them(tables):
    windows, _ = tables
    made = np.tile((0.1 * windows["age"] - windows["sex"]).to_numpy()[:, None], (1, 4))
    found = factor_scores(windows, made, FACTORS, FactorEvaluationParams(bootstraps=20))
    assert np.isnan(found["mean.partial_r"].value)
    assert np.isnan(found["externalizing.partial_r"].draws).all()
    assert np.isfinite(found["mean.subject_r"].value)
    unknown = windows.assign(age=np.nan)
    rest = factor_scores(unknown, made, FACTORS, FactorEvaluationParams(bootstraps=0))
    assert np.isnan(rest["externalizing.partial_r"].value)


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


@given(st.integers(1, 30), st.integers(0, 50))
def test_windows_become_one_prediction(n, seed):
    values = np.random.default_rng(seed).normal(size=(n, 2))
    subjects = np.repeat(["b"], n)
    for name, expected in (
        ("mean", values.mean(0)),
        ("median", np.median(values, 0)),
    ):
        params = FactorEvaluationParams(aggregation=name)
        found = aggregate_windows(values, subjects, params)
        np.testing.assert_allclose(found.to_numpy()[0], expected, atol=1e-12)
