"""Baselines of any label, classes and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from hbn_foundation.evaluation.evaluate import evaluate, window_task
from hbn_foundation.evaluation.frame import scores_of
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.tasks.labels import TARGET, label_baselines, targets_of
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.scores import auroc
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import load_encoder

AGE = LabelParams(kind="participant", column="age", type="regression")
PARAMS = FineTuningEvaluationParams(strengths=(1e-3, 1e-1), max_windows=40)


@pytest.fixture(scope="module")
def dataset(toy) -> EEGDataset:
    return EEGDataset(*toy)


def answered(dataset, label, encoder=None, **fields):
    targets = targets_of(dataset, label)
    recipe = LabelRecipe(label=label, evaluation=PARAMS, **fields)
    chosen, answers = label_baselines(dataset, targets, recipe, 200, encoder)
    return chosen.test, answers, targets


def test_all_baselines_tell_the_tasks_apart(dataset, pretrained):
    test, answers, _ = answered(dataset, LabelParams(), load_encoder(pretrained[0]))
    assert set(answers) == set(PARAMS.baselines)
    held = dataset.splits.loc[dataset.splits["split"] == "test", "subject"]
    assert set(test["subject"]) == set(held)
    predictions = {name: one.predictions[0] for name, one in answers.items()}
    assert {said.shape for said in predictions.values()} == {(len(test), 2)}
    task = window_task("frozen_probe", "task", test[TARGET].to_numpy(), test)
    found = scores_of(evaluate(task, predictions, {}, n_samples=0), "window_auroc")
    assert found.pop("majority") == 0.5
    assert found.pop("slow_features") < 0.7  # a task is constant within its recording
    assert min(found.values()) > 0.7


def test_numbers_need_no_checkpoint_and_majority_is_the_mean(dataset):
    test, answers, targets = answered(dataset, AGE)
    assert set(answers) == {"filter_bank", "riemann", "band_power", "majority"}
    for name, answer in answers.items():
        (said,) = answer.predictions
        assert said.shape == (len(test),)
        assert np.isfinite(said).all()
        assert (answer.n_features == 0) == (name == "majority")
    np.testing.assert_allclose(answers["majority"].predictions[0], targets.mean)


def test_baselines_have_the_context_that_is_asked_for(dataset):
    """What is constant within a recording, as its task, is gone with the recording's mean."""
    alone, of_recording = (
        answered(dataset, LabelParams(), context={"of": of}) for of in ("window", "recording")
    )
    labels = alone[0][TARGET].to_numpy()
    for (test, answers, _), least, most in ((alone, 0.9, 1.0), (of_recording, 0.0, 0.75)):
        assert test["start"].tolist() == alone[0]["start"].tolist()
        score = auroc(labels, answers["band_power"].predictions[0])
        assert least <= score <= most
