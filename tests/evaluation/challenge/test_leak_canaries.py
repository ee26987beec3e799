"""A release whose response times follow the subject alone: who scores on it, leaks.

On subjects never seen nothing can be better than a constant. A split by trials hands subjects to
both sides, and whoever recognises them is rewarded.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsRegressor

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.factor_baselines import factor_baselines
from hbn_foundation.evaluation.challenge.factors import factor_scores
from hbn_foundation.evaluation.challenge.features import WindowFeatures
from hbn_foundation.evaluation.challenge.params import (
    BoostingParams,
    FactorBaseline,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import (
    reference_answers,
    response_time_scores,
)
from hbn_foundation.evaluation.challenge.response_time_baselines import response_time_baselines
from hbn_foundation.evaluation.challenge_predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.labels.params import LabelParams, TrialParams
from hbn_foundation.labels.participants import factor_table, read_participants
from hbn_foundation.labels.trials import recording_trials
from hbn_foundation.pipelines.finetuning.challenge_nodes import prepare_trials
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams, SelectionParams
from hbn_foundation.scores import nrmse
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.params import TrialWindowParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import cut_trial_windows
from hbn_foundation.training.finetuning_params import (
    FineTuningParams,
    MoreTargets,
    PlanParams,
    RateParams,
)
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from planted_trials import FACTORS, Planted, pretrained_on, tuned_for_factors, tuned_for_times

PARAMS = ResponseTimeEvaluationParams(
    bootstraps=200, boosting=BoostingParams(leaves=(4,), max_trees=40)
)


class Canary(NamedTuple):
    store: SignalStore
    windows: pd.DataFrame
    people: pd.DataFrame


@pytest.fixture(scope="module")
def canary(subject_only_bids, tmp_path_factory) -> Canary:
    selection = SelectionParams(tasks=("contrastChangeDetection",))
    recordings = find_recordings(subject_only_bids, selection)
    folder = tmp_path_factory.mktemp("canary") / "store"
    store = build_store(recordings, folder, CleaningParams(), n_jobs=1)
    trials = recording_trials(recordings, TrialParams())
    people = factor_table(read_participants(subject_only_bids))
    return Canary(store, cut_trial_windows(store, trials), people)


def folds_of(subjects: np.ndarray, n_folds: int = 4) -> list[pd.DataFrame]:
    """Each subject is tested once; the next part validates."""
    names = np.random.default_rng(0).permutation(np.unique(subjects))
    part = np.arange(len(names)) % n_folds
    words = np.array(["test", "validation", *["train"] * (n_folds - 2)])
    return [pd.DataFrame({"subject": names, "split": words[(part - k) % n_folds]})
            for k in range(n_folds)]  # fmt: skip


def test_no_baseline_beats_a_constant_on_subjects_never_seen(canary, random_encoder):
    tests, answers = [], {}
    for splits in folds_of(canary.windows["subject"].to_numpy()):
        test, found = response_time_baselines(
            canary.store, canary.windows, splits, canary.people, PARAMS, 200, random_encoder
        )
        tests.append(test)
        for name, answer in found.items():
            answers.setdefault(name, []).append(answer)
    test = pd.concat(tests, ignore_index=True)
    assert set(answers) == set(PARAMS.baselines)
    for name, parts in answers.items():
        answer = pd.concat(parts, ignore_index=True)
        score = response_time_scores(test, answer, 0.85, PARAMS.bootstraps)["nrmse"]
        assert score.interval.high >= 1, name
        assert score.value > 0.98, name
    # there is much to know, for who knows the subject
    own = response_time_scores(test, reference_answers(test)["subject_mean"], 0.85, 0)
    assert own["nrmse"].value < 0.7


@pytest.mark.slow
def test_no_fine_tuned_model_beats_a_constant_on_subjects_never_seen(canary, tmp_path):
    predictions = []
    for number, splits in enumerate(folds_of(canary.windows["subject"].to_numpy())):
        data = Planted(canary.store, canary.windows, splits, canary.people)
        foundation = pretrained_on(data, tmp_path / f"pretrained{number}")
        checkpoint, _ = tuned_for_times(data, foundation, tmp_path / f"tuned{number}")
        found = predict_response_times(checkpoint, canary.store, canary.windows, splits)
        predictions.append(found)
    table = pd.concat(predictions, ignore_index=True)
    assert len(table) == len(canary.windows)
    score = response_time_scores(table, table, 0.85, PARAMS.bootstraps)["nrmse"]
    assert score.interval.high >= 1
    assert score.value > 0.98


def test_a_split_by_trials_rewards_recognising_subjects(canary):
    windows = canary.windows.assign(split="train")
    features = WindowFeatures(("filter_bank",), canary.store, 200, PARAMS)
    values, inputs = windows["rt"].to_numpy(), features.fit(windows)["filter_bank"]
    subjects = windows["subject"].to_numpy()
    random = np.random.default_rng(0)
    by_trial = random.permutation(len(values)) % 4
    by_subject = pd.Series(subjects).map(
        {name: k % 4 for k, name in enumerate(random.permutation(np.unique(subjects)))}
    )
    answers = {}
    for name, part in (("trial", by_trial), ("subject", by_subject.to_numpy())):
        answers[name] = np.empty(len(values))
        for fold in range(4):
            held = part == fold
            nearest = KNeighborsRegressor(5).fit(inputs[~held], values[~held])
            answers[name][held] = nearest.predict(inputs[held])
    assert nrmse(values, answers["trial"]) < 0.9
    interval = bootstrap_interval(
        lambda chosen: nrmse(values[chosen], answers["subject"][chosen]), subjects, 200
    )
    assert interval.high >= 1


@pytest.fixture(scope="module")
def unseen_factors(canary) -> Canary:
    """Factors that nothing in the EEG, in age or in sex goes with."""
    random = np.random.default_rng(3)
    people = canary.people.assign(**{name: random.normal(size=len(canary.people))
                                     for name in FACTORS})  # fmt: skip
    return canary._replace(people=people)


def check_factors(tests, answers, params):
    score = factor_scores(
        pd.concat(tests, ignore_index=True), np.concatenate(answers), FACTORS, params
    )
    for name in ("window_nrmse", "subject_nrmse"):
        of_main = score[f"externalizing.{name}"]
        assert of_main.value > 0.95
        assert of_main.interval.high >= 1


def test_no_baseline_of_factors_beats_a_constant_on_subjects_never_seen(
    unseen_factors, random_encoder
):
    params = FactorEvaluationParams(
        bootstraps=100, baselines=get_args(FactorBaseline), strengths=(1e-2, 1.0)
    )
    tests, answers = [], {}
    for splits in folds_of(unseen_factors.windows["subject"].to_numpy())[:2]:
        store, windows, people = unseen_factors
        test, found = factor_baselines(
            store, windows, splits, people, FACTORS, params, 200, random_encoder
        )
        tests.append(test)
        for name, answer in found.items():
            answers.setdefault(name, []).append(answer)
    assert set(answers) == set(params.baselines)
    for of_method in answers.values():
        check_factors(tests, of_method, params)


@pytest.mark.slow
def test_no_model_of_factors_beats_a_constant_on_subjects_never_seen(unseen_factors, tmp_path):
    store, windows, people = unseen_factors
    params = FactorEvaluationParams(bootstraps=200)
    tests, answers = [], []
    for number, splits in enumerate(folds_of(windows["subject"].to_numpy())):
        data = Planted(store, windows, splits, people)
        foundation = pretrained_on(data, tmp_path / f"pretrained{number}")
        checkpoint, _ = tuned_for_factors(data, foundation, tmp_path / f"tuned{number}")
        found = predict_numbers(checkpoint, store, windows, splits)
        tests.append(found[["subject"]].merge(people, on="subject", how="left"))
        answers.append(found[[f"predicted_{name}" for name in FACTORS]].to_numpy())
    check_factors(tests, answers, params)


def test_a_split_of_factors_by_windows_rewards_recognising_subjects(unseen_factors):
    store, windows, people = unseen_factors
    windows = windows.assign(split="train")
    inputs = WindowFeatures(("filter_bank",), store, 200, PARAMS).fit(windows)["filter_bank"]
    subjects = windows["subject"].to_numpy()
    values = people.set_index("subject").loc[subjects, "externalizing"].to_numpy()
    random = np.random.default_rng(0)
    part_of = {name: k % 4 for k, name in enumerate(random.permutation(np.unique(subjects)))}
    errors = {}
    for name, part in (("window", random.permutation(len(values)) % 4),
                       ("subject", pd.Series(subjects).map(part_of).to_numpy())):  # fmt: skip
        answer = np.empty(len(values))
        for fold in range(4):
            held = part == fold
            nearest = KNeighborsRegressor(5).fit(inputs[~held], values[~held])
            answer[held] = nearest.predict(inputs[held])
        errors[name] = nrmse(values, answer)
    assert errors["window"] < 0.7
    assert errors["subject"] > 1


@pytest.mark.parametrize(
    ("seen_as", "says"),
    [("train", "the model was trained on 12"), ("validation", "was chosen on 4 of the test")],
)
def test_a_pretraining_that_has_seen_test_subjects_is_refused(planted, tmp_path, seen_as, says):
    """Before any fine-tuning: those it learned from, and those who chose its epoch."""
    foundation = pretrained_on(planted, tmp_path)
    roles = {"train": "train", "validation": "validation", "test": "test"}
    roles |= {seen_as: "test", "test": seen_as}
    splits = planted.splits.assign(split=planted.splits["split"].map(roles))
    label = LabelParams(kind="trial", column="rt", type="regression")
    prepare = partial(
        prepare_trials, foundation, planted.store, planted.windows.assign(excluded=""),
        participants=planted.people, windows=TrialWindowParams(), label=label,
        head=HeadParams(kind="distribution"), plan=PlanParams(strategy="full"), rates=RateParams(),
        trainer=FineTuningParams(), more_targets=MoreTargets(),
        tokens=AddedTokenParams(tokens=("time",)), input=InputParams(), fault=None,
    )  # fmt: skip
    with pytest.raises(UserError, match=says):
        prepare(splits=splits)
    windows, _ = prepare(splits=planted.splits)
    assert len(windows) == len(planted.windows)


@pytest.mark.slow
def test_shuffled_labels_teach_a_fine_tuned_model_nothing(planted, tmp_path):
    """What is planted there is found from the true labels, see the tests of baselines."""
    order = np.random.default_rng(0).permutation(len(planted.windows))
    labels = planted.windows[["rt", "correct"]].iloc[order].to_numpy()
    shuffled = planted._replace(windows=planted.windows.assign(rt=labels[:, 0],
                                                               correct=labels[:, 1]))  # fmt: skip
    foundation = pretrained_on(shuffled, tmp_path / "pretrained")
    checkpoint, _ = tuned_for_times(shuffled, foundation, tmp_path / "tuned")
    table = predict_response_times(checkpoint, shuffled.store, shuffled.windows, shuffled.splits)
    scores = response_time_scores(table, table, 0.8, PARAMS.bootstraps)
    assert scores["nrmse"].interval.high >= 1
    assert scores["auroc"].interval.low <= 0.5 <= scores["auroc"].interval.high
