"""Classes and numbers of windows are scored in one tidy table, per window and per recording."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.evaluation.evaluate import (
    MISSING,
    by_recording,
    confusion_matrix,
    evaluate,
    plain,
    predictions_table,
    window_task,
)
from hbn_foundation.evaluation.frame import COLUMNS, nested_scores, scores_of
from hbn_foundation.evaluation.within import about_strata
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.scores import accuracy, auroc, kappa, macro_f1


def windows_of(recordings, subjects=None):
    return pd.DataFrame({"recording": recordings, "subject": subjects or recordings})


def scored(values, predictions, windows, n_samples=0, **more):
    task = window_task("own", "label", np.asarray(values), windows)
    return evaluate(task, {"own": predictions}, more, n_samples=n_samples)


@pytest.fixture(scope="module")
def numbers():
    random = np.random.default_rng(0)
    names = [f"r{k}" for k in range(12) for _ in range(10)]
    values = np.repeat(np.arange(12.0), 10)
    near, far = (values + random.normal(0, size, 120) for size in (2, 5))
    for column in (near, far, values):  # the truth of the first is not known
        column[0] = np.nan
    return values, near, far, windows_of(names)


def test_the_table_is_tidy_and_the_best_comes_first(numbers):
    values, near, far, windows = numbers
    table = scored(values, near, windows, 100, far=far, mean=np.full(120, 5.5))
    assert tuple(table) == COLUMNS
    assert table["method"].unique().tolist() == ["own", "mean", "far"]
    assert not table.duplicated(["target", "metric", "method"]).any()
    assert set(table["n_windows"]) == {119}
    assert set(table["n_subjects"]) == {12}
    assert table["kind"].eq("model").tolist() == table["method"].eq("own").tolist()
    assert table.attrs[MISSING] == ""
    main = table[table["metric"] == "nrmse"].set_index("method")
    assert ((main["ci_low"] < main["value"]) & (main["value"] < main["ci_high"]))[
        ["own", "far"]
    ].all()
    ahead = table[table["metric"] == "nrmse_ahead"].set_index("method")
    assert list(ahead.index) == ["mean", "far"]
    assert ahead.loc["far", "value"] == pytest.approx(
        main.loc["far", "value"] - main["value"]["own"]
    )
    assert ahead.loc["far", "ci_low"] > 0
    task = window_task("own", "label", values, windows)  # references come last, however good
    known = evaluate(task, {"own": near}, {}, {"truth": values + 0.1}, n_samples=0)
    assert known["method"].unique().tolist() == ["own", "truth"]
    assert known["kind"].unique().tolist() == ["model", "reference"]
    found = nested_scores(table)
    assert json.loads(json.dumps(plain(found)))["mean"]["r"] is None
    assert found["own"]["recording_nrmse"] < found["own"]["nrmse"]
    assert found["own"]["recording_r"] > found["own"]["r"] > 0.4


def test_classes_have_f1_and_the_reason_for_no_interval():
    labels = [0, 0, 1, 1, -1]
    logs = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.5, 0.5]]))
    table = scored(labels, logs, windows_of(list("abcde")), 10)
    found = scores_of_own(table)
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert confusion_matrix(np.array(labels), logs) == [[2, 0], [1, 1]]
    assert table["ci_low"].isna().all()
    assert table.attrs[MISSING] == "4 test subjects, an interval needs 10"


def scores_of_own(table):
    return {name: scores_of(table, name)["own"] for name in table["metric"].unique()}


def test_constant_answer_is_chance_for_recordings_of_any_length():
    lengths = [3, 7, 11, 13]
    labels = np.repeat([0, 1, 0, 1], lengths)
    logs = np.log(np.tile([0.3, 0.7], (len(labels), 1)))
    windows = windows_of(np.repeat(list("abcd"), lengths).tolist())
    found = scores_of_own(scored(labels, logs, windows))
    assert found["window_auroc"] == found["recording_auroc"] == 0.5


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 1000))
def test_recordings_do_not_depend_on_the_order_of_windows(lengths, seed):
    random = np.random.default_rng(seed)
    recordings = np.repeat([f"r{i}" for i in range(len(lengths))], lengths)
    labels = np.repeat(np.arange(len(lengths)) % 2, lengths)
    logs = np.log(random.dirichlet(np.ones(2), size=len(labels)))
    order = random.permutation(len(labels))
    whole = by_recording(labels, logs, recordings)
    mixed = by_recording(labels[order], logs[order], recordings[order])
    np.testing.assert_array_equal(whole[0], mixed[0])
    np.testing.assert_allclose(whole[1], mixed[1])
    np.testing.assert_allclose(whole[1][0], logs[recordings == "r0"].mean(0))


def test_classes_that_change_within_a_recording_are_no_class_of_recordings():
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(2), size=6))
    table = scored([0, 1, 1, 1, 0, 0], logs, windows_of(["r1", "r1", "r2", "r2", "r3", "r3"]))
    found = scores_of_own(table)
    for name in ("recording_auroc", "recording_balanced_accuracy", "recording_f1"):
        assert np.isnan(found[name])
    assert np.isfinite(found["window_auroc"])


def test_predictions_stand_beside_the_truth(toy):
    few = toy.windows.head(3)
    logs = np.log([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]) + 3
    targets = WindowTargets(np.array([0, 1, -1]), ("a", "b"))
    table = predictions_table(few, targets, logs)
    assert table["predicted"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["p(b)"], [0.1, 0.8])
    assert "trial" not in table
    of_trials = predictions_table(few.assign(trial=[4, 5, 6]), targets, logs)
    assert of_trials["trial"].tolist() == [4, 5]
    of_numbers = WindowTargets(np.array([1.0, np.nan, 3.0]), ("age",), True, 2.0, 1.0)
    table = predictions_table(few, of_numbers, np.array([1.5, 0.0, 2.5]))
    assert table["value"].tolist() == [1, 3]
    assert table["predicted"].tolist() == [1.5, 2.5]


def of_subjects(n_windows=30):
    """Twelve subjects whose answers drift apart, in two strata, three of them in the rare one."""
    random = np.random.default_rng(1)
    subjects = np.repeat([f"s{k:02}" for k in range(12)], n_windows)
    strata = np.where(subjects < "s03", "rare", "usual")
    values = random.integers(2, size=len(subjects))
    skill = np.where(strata == "rare", 0.3, 2.0)
    answers = values * skill + random.normal(size=len(values)) + np.repeat(np.arange(12.0), 30)
    windows = windows_of(subjects.tolist()).assign(stratum=strata)
    return values, np.stack([np.zeros(len(values)), answers], 1), windows


def test_stratified_scores_are_within_subjects_and_then_over_strata():
    values, answers, windows = of_subjects()
    table = scored(values, answers, windows, 200, other=answers[:, ::-1])
    own = table[table["method"] == "own"].set_index("metric")
    each = pd.Series({
        name: auroc(values[part.index], answers[part.index])
        for name, part in windows.groupby("subject")
    })  # fmt: skip
    expected = (each[:3].mean() + each[3:].mean()) / 2
    main = own.loc["within_auroc"]
    assert main["value"] == pytest.approx(expected)
    assert main["ci_low"] < expected < main["ci_high"]
    assert main["n_subjects"] == 12
    assert np.isnan(own.loc["window_auroc", "ci_low"])
    assert own.loc["window_auroc", "value"] < expected  # subjects lie apart
    ahead = table[table["metric"] == "within_auroc_ahead"].iloc[0]
    assert ahead["value"] == pytest.approx(2 * expected - 1)
    assert ahead["ci_low"] < ahead["value"] < ahead["ci_high"]
    pooled = scored(values, answers, windows.drop(columns="stratum"))
    assert "within_auroc" not in set(pooled["metric"])
    assert scores_of(pooled, "window_auroc")["own"] == own.loc["window_auroc", "value"]


def test_subjects_of_one_class_have_no_score_and_are_counted(caplog):
    values, answers, windows = of_subjects()
    values[windows["subject"] == "s11"] = 1
    own = scored(values, answers, windows, 100).set_index("metric")
    assert own.loc["within_auroc", "n_subjects"] == 11
    assert own.loc["window_auroc", "n_subjects"] == 12
    with caplog.at_level("INFO"):
        found = about_strata(windows, values)
    assert found == {"strata": {"rare": 3, "usual": 8}, "one_class": 1}
    assert "rare 3 test subjects, usual 8 test subjects; 1 test subject of one class" in caplog.text
    assert about_strata(windows.drop(columns="stratum"), values) == {}


def test_resamples_without_a_stratum_have_no_score():
    values, answers, windows = of_subjects()
    rare = windows.assign(stratum=np.where(windows["subject"] == "s00", "rare", "usual"))
    table = scored(values, answers, rare, 300)
    assert "of the resamples lack one of the strata" in table.attrs[MISSING]


def test_classes_that_change_within_subjects_are_scored_by_subject_with_intervals():
    random = np.random.default_rng(0)
    subjects = [f"s{k:02d}" for k in range(12) for _ in range(20)]
    values = random.integers(3, size=240)
    answers = np.log(np.full((240, 3), 0.2))
    shown = np.where(random.random(240) < 0.8, values, random.integers(3, size=240))
    answers[np.arange(240), shown] = np.log(0.6)
    table = scored(values, answers, windows_of(subjects), 100).set_index("metric")
    for name, score in (("kappa", kappa), ("accuracy", accuracy), ("f1", macro_f1)):
        each = [score(values[k : k + 20], shown[k : k + 20]) for k in range(0, 240, 20)]
        row = table.loc[f"within_{name}"]
        assert row["value"] == pytest.approx(np.mean(each))
        assert row["ci_low"] < row["value"] < row["ci_high"]
    of_subjects = np.repeat(np.arange(12) % 3, 20)
    assert "within_kappa" not in set(scored(of_subjects, answers, windows_of(subjects))["metric"])
