"""Fine-tuned models and baselines are scored alike, classes and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.finetuning import (
    finetuning_metrics,
    main_score_of,
    predictions_table,
)
from hbn_foundation.evaluation.finetuning_baselines import baseline_answers, chosen_windows
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import WindowTargets, window_targets

AGE = LabelParams(kind="participant", column="age", type="regression")
PARAMS = FineTuningEvaluationParams(strengths=(1e-3, 1e-1), max_windows=40)


def targets_of(toy, label: LabelParams) -> WindowTargets:
    train = toy.splits.loc[toy.splits["split"] == "train", "subject"]
    return window_targets(toy.windows, toy.participants, label, train)


def test_numbers_are_scored_per_window_and_per_recording():
    random = np.random.default_rng(0)
    recordings = np.repeat([f"r{k}" for k in range(12)], 10)
    subjects = np.repeat([f"s{k}" for k in range(12)], 10)
    values = np.repeat(np.arange(12.0), 10)
    predicted = values + random.normal(0, 5, 120)
    predicted[0] = np.nan  # its truth is not known either
    values[0] = np.nan
    scores = finetuning_metrics(values, predicted, recordings, subjects, True)
    main = main_score_of(values, predicted, subjects, True, 100)
    assert main.value == scores["nrmse"]
    assert main.interval.low < main.value < main.interval.high
    assert scores["n_windows"] == 119
    assert scores["n_recordings"] == 12
    assert scores["recording_nrmse"] < scores["nrmse"]
    assert scores["recording_r"] > scores["r"] > 0.4


def test_classes_have_f1_and_the_reason_for_no_interval():
    labels = np.array([0, 0, 1, 1, -1])
    logs = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.5, 0.5]]))
    names = np.array(list("abcde"))
    scores = finetuning_metrics(labels, logs, names, names, False)
    assert scores["accuracy"] == 0.75
    assert scores["f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["confusion_matrix"] == [[2, 0], [1, 1]]
    ends = main_score_of(labels, logs, names, False, 10).interval
    assert np.isnan(ends.low)
    assert ends.missing == "4 test subjects, an interval needs 10"


def test_predictions_stand_beside_the_truth(toy):
    few = toy.windows.head(3)
    logs = np.log([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]) + 3
    table = predictions_table(few, WindowTargets(np.array([0, 1, -1]), ("a", "b")), logs)
    assert table["predicted"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["p(b)"], [0.1, 0.8])
    assert "trial" not in table
    of_trials = predictions_table(
        few.assign(trial=[4, 5, 6]), WindowTargets(np.array([0, 1, -1]), ("a", "b")), logs
    )
    assert of_trials["trial"].tolist() == [4, 5]
    numbers = WindowTargets(np.array([1.0, np.nan, 3.0]), ("age",), True, 2.0, 1.0)
    table = predictions_table(few, numbers, np.array([1.5, 0.0, 2.5]))
    assert table["value"].tolist() == [1, 3]
    assert table["predicted"].tolist() == [1.5, 2.5]


def test_all_baselines_tell_the_tasks_apart(toy, pretrained):
    from hbn_foundation.training.checkpoint import load_encoder

    targets = targets_of(toy, LabelParams())
    test, answers = baseline_answers(
        toy.store, toy.windows, toy.splits, targets, PARAMS, 200, load_encoder(pretrained[0])
    )
    assert set(answers) == set(PARAMS.baselines)
    table = toy.windows.iloc[test]
    assert set(table["subject"]) == set(toy.splits.loc[toy.splits["split"] == "test", "subject"])
    for method, answer in answers.items():
        assert answer.predictions.shape == (len(test), 2)
        scores = finetuning_metrics(
            targets.values[test],
            answer.predictions,
            table["recording"].to_numpy(),
            table["subject"].to_numpy(),
            False,
        )
        chance = method == "majority"
        assert (scores["window_auroc"] == 0.5) if chance else (scores["window_auroc"] > 0.7)


def test_numbers_need_no_checkpoint_and_majority_is_the_mean(toy):
    targets = targets_of(toy, AGE)
    test, answers = baseline_answers(toy.store, toy.windows, toy.splits, targets, PARAMS, 200)
    assert set(answers) == {"filter_bank", "riemann", "band_power", "majority"}
    assert (answers["majority"].predictions == targets.mean).all()
    for answer in answers.values():
        assert answer.predictions.shape == (len(test),)
        assert np.isfinite(answer.predictions).all()


def test_test_windows_are_never_thinned_and_unknown_ones_never_used(toy):
    targets = targets_of(toy, LabelParams())
    targets.values[::3] = -1
    chosen = chosen_windows(toy.windows, toy.splits, targets, 12)
    split = toy.windows["subject"].map(toy.splits.set_index("subject")["split"]).to_numpy()
    assert (targets.values[chosen] >= 0).all()
    assert (split[chosen] == "train").sum() == 12
    assert (split[chosen] == "test").sum() == ((split == "test") & targets.known).sum()


def test_a_split_without_labels_is_said(toy):
    targets = targets_of(toy, LabelParams())
    outside = toy.splits.assign(split=toy.splits["split"].replace("validation", "train"))
    with pytest.raises(UserError, match="no window of the validation subjects"):
        baseline_answers(toy.store, toy.windows, outside, targets, PARAMS, 200)
