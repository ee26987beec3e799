"""Curves and folds of the challenges: the mechanism of any label, beside the baselines of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fold_data import CPU, INLINE, curve_results, curve_stores, pretraining_in

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.curve_summary import curve_summary
from hbn_foundation.evaluation.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.preflight import check_challenge
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe, FoundationRecipe
from hbn_foundation.evaluation.tasks.factors import score_factors
from hbn_foundation.evaluation.tasks.response_times import score_response_times
from hbn_foundation.experiments.learning_curve import (
    cross_validate_challenge,
    folds_of_checkpoint,
    learning_curve,
    list_runs,
)
from hbn_foundation.experiments.params import LearningCurveParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.finetuning_params import (
    FineTuningParams,
    PlanParams,
    RateParams,
    RegularisationParams,
)
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from planted_trials import FACTORS, Planted, dataset_of, plant, pretrained_on

pytestmark = pytest.mark.usefixtures("forked_trainings")

TIMES = LabelParams(kind="trial", column="rt", type="regression")
CONVOLUTIONS = {"tokens": ("time",), "time": {"kind": "conv", "width": 8, "kernel": 9, "depth": 0}}
REPEATS = {"folds": 2, "repeats": 1, "n_jobs": 1}
SHORT = {"epochs": 1, "batch_size": 32, "precision": "32", "monitor": "loss"}
NUMBERS = {n: {"kind": "participant", "column": n, "type": "regression"} for n in FACTORS}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def learned(planted) -> EEGDataset:
    """Windows of trials, with the factors of their subjects."""
    data = dataset_of(planted)
    windows = data.windows.merge(data.participants[["subject", *FACTORS]], on="subject")
    return data.replace(windows=windows)


@pytest.fixture(scope="module")
def challenge(planted, learned, tmp_path_factory):
    """A foundation checkpoint, and windows of trials."""
    return pretrained_on(planted, tmp_path_factory.mktemp("foundation")), learned


@pytest.fixture(scope="module")
def dataset(learned) -> EEGDataset:
    window = WindowParams(seconds=2.0, stride=4.0)
    return learned.replace(windows=cut_windows(learned.store, window), window=window)


def recipes(folder) -> tuple[FoundationRecipe, Challenge1Recipe, Challenge2Recipe]:
    """Small ones whose results lie in a folder."""
    foundation = {
        "encoder": {"hidden_dim": 16, "n_heads": 2, "n_layers": 1},
        "trainer": {"epochs": 1, "batch_size": 32, "precision": "32", "warmup_steps": 2,
                    "work_dir": str(folder)},
    }  # fmt: skip
    shared = {
        "trainer": {**SHORT, "work_dir": str(folder / "challenge")},
        "plan": {"strategy": "full"},
        "evaluation": {"baselines": ["constant", "age_sex"], "repeats": REPEATS, "bootstraps": 20},
    }
    times = {"kind": "trial", "column": "rt", "type": "regression"}
    more = {name: {"label": NUMBERS[name]} for name in FACTORS[:-1]}
    return (
        FoundationRecipe.model_validate(foundation),
        Challenge1Recipe.model_validate({**shared, "label": times}),
        Challenge2Recipe.model_validate(
            {**shared, "label": NUMBERS[FACTORS[-1]], "more_targets": more}
        ),
    )


def test_every_subject_is_tested_once_by_models_new_to_it(dataset, learned, tmp_path):
    foundation, times, factors = recipes(tmp_path)

    def run(recipe):
        return cross_validate_challenge(dataset, learned, foundation, recipe, False, CPU, INLINE)

    found = run(times)
    scores = score_response_times(found, times.evaluation)
    of_model = scores.predictions[scores.predictions["method"] == "fine_tuned"]
    assert sorted(of_model["start"]) == sorted(learned.windows["start"])
    assert scores.metrics["n_subjects"] == 28
    assert scores.metrics["folds"] == 2
    assert set(scores.scores["method"]) >= {"fine_tuned", "constant", "age_sex"}
    encoders = list(tmp_path.glob("folds/encoders/??/*"))
    assert len(encoders) == 2
    kept = {path: path.stat().st_mtime_ns for path in encoders}
    of_factors = score_factors(run(factors), factors.evaluation)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("folds/encoders/??/*")} == kept
    subjects = of_factors.predictions.groupby("method")["subject"].nunique()
    assert set(subjects) == {28}
    assert found.table.equals(run(times).table)  # from what is kept


def few(dataset, n: int) -> EEGDataset:
    """A dataset in which the factors are known of so many test subjects."""
    tested = dataset.splits.loc[dataset.splits["split"] == "test", "subject"]
    unknown = dataset.windows["subject"].isin(tested[n:])
    windows = dataset.windows.copy()
    windows.loc[unknown, list(FACTORS)] = float("nan")
    return dataset.replace(windows=windows)


def test_what_the_split_cannot_score_is_found_before_training(dataset, learned, tmp_path):
    _, times, factors = recipes(tmp_path)
    label = LabelParams()
    one = factors.model_copy(
        update={"evaluation": factors.evaluation.model_copy(update={"repeats": None})}
    )
    check_challenge(dataset, few(learned, 2), one, label)
    with pytest.raises(UserError, match=(
        r"participants: externalizing is known of 1 test subject with windows; expected 2 or more; "
        r"challenge2\.evaluation\.repeats\.folds=5 tests each subject once"
    )):  # fmt: skip
        check_challenge(dataset, few(learned, 1), one, label)
    check_challenge(dataset, few(learned, 1), factors, label)  # the folds score it
    check_challenge(dataset, learned, times, label)
    for asked in ({"keep_head": True}, {"checkpoint": "finetuning_checkpoint"}):
        check_challenge(dataset, learned, one.model_copy(update=asked), label)
        (key,) = asked
        with pytest.raises(UserError, match=rf"repeats, challenge1\.{key}=.* begin from encoders"):
            check_challenge(dataset, learned, times.model_copy(update=asked), label)


def times_recipe(**changes) -> Challenge1Recipe:
    recipe = Challenge1Recipe(
        label=TIMES,
        head=HeadParams(kind="distribution", dropout=0.0, bins=40),
        plan=PlanParams(strategy="full"),
        rates=RateParams(head_lr=5e-3),
        regularisation=RegularisationParams(hide_probability=0.0),
        trainer=FineTuningParams(epochs=1, batch_size=16, precision="32"),
        tokens=AddedTokenParams.model_validate(CONVOLUTIONS),
        input=InputParams(unit="volts"),
        evaluation=ResponseTimeEvaluationParams(
            baselines=("constant", "time_bins", "random_weights"),
            strengths=(1e-3, 1e-1),
            bootstraps=20,
        ),
    )
    return recipe.model_copy(update=changes)


def of_challenge(folder, challenge, recipe=None, splits=None, **changes):
    foundation, data = challenge
    data = data if splits is None else data.replace(splits=splits)
    params = {"shares": (0.25, 1.0), "seeds": (0,), "work_dir": str(folder / "curve")} | changes
    return learning_curve(
        foundation, data, recipe or times_recipe(), pretraining_in(folder),
        LearningCurveParams.model_validate(params), CPU, INLINE,
    )  # fmt: skip


def test_a_challenge_is_learned_beside_its_baselines(challenge, tmp_path):
    table, predictions = of_challenge(tmp_path, challenge)
    methods = {"fine_tuned", "scratch", "constant", "time_bins", "random_weights"}
    assert table.groupby("n_subjects")["method"].apply(set).to_dict() == {3: methods, 12: methods}
    scores = table.set_index(["method", "n_subjects"])["nrmse"]
    assert scores.notna().all()
    assert scores["constant"].between(1, 1.3).all()
    # what is planted is found from three subjects, better from all
    assert scores["time_bins", 12] < scores["time_bins", 3] < 1
    assert (scores["scratch"] != scores["fine_tuned"]).all()
    assert len(curve_results(tmp_path)) == 2
    summary = curve_summary(predictions, times_recipe().evaluation)
    found = summary.set_index(["method", "n_subjects"])
    pd.testing.assert_series_equal(found["score"].sort_index(), scores.sort_index(),
                                   check_names=False)  # fmt: skip
    assert set(found["metric"]) == {"nrmse"}
    assert found["low"].notna().all()
    gap = scores["constant", 12] - scores["fine_tuned", 12]
    assert found.loc[("constant", 12), "fine_tuned_ahead"] == pytest.approx(gap)


def test_keys_of_a_challenge_follow_what_results_depend_on(challenge, tmp_path):
    foundation, data = challenge
    small = {"shares": (0.25, 1.0), "seeds": (0,)}

    def keys(recipe=None, given=data, **changes):
        params = LearningCurveParams.model_validate(small | changes)
        recipe, stores = recipe or times_recipe(), curve_stores(tmp_path)
        pretraining = pretraining_in(tmp_path)
        folds = folds_of_checkpoint(foundation, given, recipe, pretraining, params, stores)
        return {run.job.key for run in list_runs(folds, given, recipe, params, stores, CPU)}

    base = keys()
    assert keys(times_recipe(trainer=FineTuningParams(epochs=1, batch_size=16, precision="32",
                                                      work_dir="elsewhere"))) == base  # fmt: skip
    assert keys(shares=(0.25, 0.5, 1.0)) > base
    assert keys(subjects=(3, 12)) == base
    assert not keys(seeds=(1,)) & base
    assert not keys(scratch=False) & base
    assert len(keys(same_steps=False) & base) == 1  # all subjects: gone through as often
    assert not keys(times_recipe(rates=RateParams(head_lr=1e-3))) & base
    later = data.windows.assign(rt=data.windows["rt"] + 0.1)
    assert not keys(given=data.replace(windows=later)) & base


def test_mistakes_of_a_challenge_are_found_before_any_training(challenge, tmp_path):
    splits = challenge[1].splits
    everyone = np.where(splits["split"] == "validation", "train", splits["split"])
    swapped = splits.replace({"split": {"train": "test", "test": "train"}})
    alone = splits[(splits["split"] != "train") | (splits["subject"] == splits["subject"].iloc[0])]
    for match, wrong in (
        ("no window of the validation subjects", splits.assign(split=everyone)),
        ("the model was trained on 12 of", swapped),
        ("no test subjects", splits.replace({"split": {"test": "validation"}})),
        ("1 training subjects have windows; expected 2 or more", alone),
    ):
        with pytest.raises(UserError, match=match):
            of_challenge(tmp_path, challenge, splits=wrong)
    assert curve_results(tmp_path) == set()


@pytest.mark.slow
def test_factors_have_a_curve(challenge, tmp_path):
    _, _, recipe = recipes(tmp_path)
    table, predictions = of_challenge(tmp_path, challenge, recipe, shares=(0.5,), scratch=False)
    assert set(table["method"]) == {"fine_tuned", "constant", "age_sex"}
    assert table["window_nrmse"].notna().all()
    summary = curve_summary(predictions, recipe.evaluation)
    assert dict(zip(summary["method"], summary["score"], strict=True)) == pytest.approx(
        dict(zip(table["method"], table["window_nrmse"], strict=True))
    )
