"""A release whose response times follow the subject alone: a method that scores on it, leaks.

On subjects never seen nothing can be better than a constant. A split by trials hands subjects to
both sides, and rewards recognising them.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsRegressor

from hbn_foundation.evaluation.evaluate import evaluate
from hbn_foundation.evaluation.features import FeatureExtractor
from hbn_foundation.evaluation.params import (
    FactorBaseline,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.evaluation.tasks.challenge_baselines import challenge_baselines, people_of
from hbn_foundation.evaluation.tasks.factors import asked_factors, factor_task
from hbn_foundation.evaluation.tasks.response_times import (
    asked_times,
    reference_answers,
    response_time_task,
)
from hbn_foundation.labels.params import TrialParams
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.labels.trials import recording_trials
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.scores import nrmse
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import BuildParams
from hbn_foundation.signals.windows import cut_trial_windows
from planted_trials import (
    FACTORS,
    Planted,
    dataset_of,
    pretrained_on,
    tuned_for_factors,
    tuned_for_times,
)

PARAMS = ResponseTimeEvaluationParams(bootstraps=200)
OF_FACTORS = FactorEvaluationParams(baselines=get_args(FactorBaseline), strengths=(1e-2, 1.0))


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr("hbn_foundation.evaluation.boosting.MOST_TREES", 40)


@pytest.fixture(scope="module")
def unlearnable(subject_only_bids, tmp_path_factory) -> EEGDataset:
    """Factors that nothing in the EEG, in age or in sex goes with."""
    selection = SelectionParams(tasks=("contrastChangeDetection",))
    recordings = find_recordings(subject_only_bids, selection)
    folder = tmp_path_factory.mktemp("canary") / "store"
    store = build_store(recordings, BuildParams(path=str(folder), n_jobs=1))
    windows = cut_trial_windows(store, recording_trials(recordings, TrialParams()))
    people, random = read_participants(subject_only_bids), np.random.default_rng(3)
    people = people.assign(**{name: random.normal(size=len(people)) for name in FACTORS})
    return EEGDataset(store, windows, pd.DataFrame(), people)


def folds_of(dataset: EEGDataset, n_folds: int = 4) -> list[EEGDataset]:
    """Each subject is tested once; the next part validates."""
    names = np.random.default_rng(0).permutation(np.unique(dataset.windows["subject"]))
    part = np.arange(len(names)) % n_folds
    words = np.array(["test", "validation", *["train"] * (n_folds - 2)])
    return [
        dataset.replace(
            splits=pd.DataFrame({"subject": names, "split": words[(part - k) % n_folds]})
        )
        for k in range(n_folds)
    ]


def predicted_times(data, random_encoder, tmp_path) -> tuple[pd.DataFrame, dict]:
    """Test trials, and what baselines or a fine-tuned model predict for them."""
    if random_encoder is not None:
        asked = asked_times(data)
        sample, answers = challenge_baselines(asked, data, PARAMS, 200, random_encoder)
        assert set(answers) == set(PARAMS.baselines)
        return sample.test, answers
    checkpoint, _ = tuned_for_times(*_pretrained(data, tmp_path), tmp_path / "tuned")
    found = predict_response_times(checkpoint, data)
    return found, {"fine_tuned": found[["predicted_rt", "p_correct"]]}


def predicted_factors(data, random_encoder, tmp_path) -> tuple[pd.DataFrame, dict]:
    """As `predicted_times`, of the factors."""
    if random_encoder is not None:
        asked = asked_factors(data, FACTORS)
        sample, answers = challenge_baselines(asked, data, OF_FACTORS, 200, random_encoder)
        assert set(answers) == set(OF_FACTORS.baselines)
        return sample.test, answers
    people = people_of(data.participants, FACTORS)
    columns = [f"predicted_{name}" for name in FACTORS]
    checkpoint, _ = tuned_for_factors(*_pretrained(data, tmp_path), tmp_path / "tuned")
    found = predict_numbers(checkpoint, data)
    return found[["subject"]].merge(people, on="subject", how="left"), {
        "fine_tuned": found[columns]
    }


def _pretrained(data, tmp_path):
    planted = Planted(data.store, data.windows, data.splits, data.participants)
    return planted, pretrained_on(planted, tmp_path / "pretrained")


def scored_times(test, answers, n_samples=PARAMS.bootstraps):
    task = response_time_task(test, 0.85)._replace(model=min(answers))
    return evaluate(task, answers, {}, n_samples=n_samples)


def scored_factors(test, answers):
    task = factor_task(test, FACTORS, OF_FACTORS)._replace(model=min(answers))
    arrays = {name: said.to_numpy() for name, said in answers.items()}
    scores = evaluate(task, arrays, {}, n_samples=100)
    return scores[scores["target"] == "externalizing"]


OF_TIMES = (predicted_times, scored_times, ("nrmse",), 0.98, 4)
OF_ALL_FACTORS = (
    predicted_factors, scored_factors, ("window_nrmse", "subject_nrmse"), 0.95, 2,
)  # fmt: skip


@pytest.mark.parametrize(
    "model", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["baselines", "model"]
)
@pytest.mark.parametrize("of", [OF_TIMES, OF_ALL_FACTORS], ids=["times", "factors"])
def test_no_method_beats_a_constant_on_subjects_never_seen(
    unlearnable, random_encoder, tmp_path, of, model
):
    predicted, scored, metrics, least, n_folds = of
    tests, answers = [], {}
    for number, data in enumerate(folds_of(unlearnable)[: 4 if model else n_folds]):
        test, found = predicted(data, None if model else random_encoder, tmp_path / str(number))
        tests.append(test)
        for name, said in found.items():
            answers.setdefault(name, []).append(said)
    test = pd.concat(tests, ignore_index=True)
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in answers.items()}
    scores = scored(test, whole)
    for metric in metrics:
        of_metric = scores[scores["metric"] == metric]
        assert len(of_metric) == len(whole)
        assert (of_metric["value"] > least).all()
        assert (of_metric["ci_high"] >= 1).all()
    if predicted is predicted_times:  # there is much to know, for who knows the subject
        own = scored_times(test, reference_answers(test), 0).set_index("method")["value"]
        assert own["subject_mean"].iloc[0] < 0.7


@pytest.mark.parametrize(("column", "most"), [("rt", 0.9), ("externalizing", 0.7)])
def test_a_split_by_windows_rewards_recognising_subjects(unlearnable, column, most):
    windows = unlearnable.windows.assign(split="train")
    extractor = FeatureExtractor(("filter_bank",), unlearnable.store, 200, PARAMS)
    inputs = extractor.fit(windows)["filter_bank"]
    subjects = windows["subject"].to_numpy()
    values = windows["rt"].to_numpy()
    if column != "rt":
        values = unlearnable.participants.set_index("subject").loc[subjects, column].to_numpy()
    random = np.random.default_rng(0)
    by_window = random.permutation(len(values)) % 4
    part_of = {name: k % 4 for k, name in enumerate(random.permutation(np.unique(subjects)))}
    answers = {}
    for name, part in (("window", by_window), ("subject", pd.Series(subjects).map(part_of))):
        answers[name] = np.empty(len(values))
        for fold in range(4):
            held = np.asarray(part) == fold
            nearest = KNeighborsRegressor(5).fit(inputs[~held], values[~held])
            answers[name][held] = nearest.predict(inputs[held])
    assert nrmse(values, answers["window"]) < most
    interval = bootstrap_interval(
        lambda chosen: nrmse(values[chosen], answers["subject"][chosen]), subjects, 200
    )
    assert interval.high >= 1


@pytest.mark.slow
def test_shuffled_labels_teach_a_fine_tuned_model_nothing(planted, tmp_path):
    """What is planted there is found from the true labels, see the tests of baselines."""
    order = np.random.default_rng(0).permutation(len(planted.windows))
    labels = planted.windows[["rt", "correct"]].iloc[order].to_numpy()
    shuffled = planted._replace(windows=planted.windows.assign(rt=labels[:, 0],
                                                               correct=labels[:, 1]))  # fmt: skip
    foundation = pretrained_on(shuffled, tmp_path / "pretrained")
    checkpoint, _ = tuned_for_times(shuffled, foundation, tmp_path / "tuned")
    table = predict_response_times(checkpoint, dataset_of(shuffled))
    scores = scored_times(table, {"fine_tuned": table}).set_index("metric")
    assert scores["ci_high"]["nrmse"] >= 1
    assert scores["ci_low"]["auroc"] <= 0.5 <= scores["ci_high"]["auroc"]
