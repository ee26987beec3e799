"""The curve over training subjects: nested subsets, one test, nothing done twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fold_data import INLINE, results
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.evaluation.report.experiments import learning_curve_report
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.experiments import learning_curve as module
from hbn_foundation.experiments.folds import stores_in
from hbn_foundation.experiments.learning_curve import learning_curve, list_runs, nested_splits
from hbn_foundation.experiments.params import LearningCurveParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.finetuning_params import (
    FineTuningParams,
    MoreTargets,
    PlanParams,
    RateParams,
    RegularisationParams,
)
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from planted_trials import FACTORS, dataset_of, plant, pretrained_on

pytestmark = pytest.mark.usefixtures("forked_trainings")

CPU = {"chosen": "cpu"}
TIMES = LabelParams(kind="trial", column="rt", type="regression")
CONVOLUTIONS = {"tokens": ("time",), "time": {"kind": "conv", "width": 8, "kernel": 9, "depth": 0}}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def foundation(planted, tmp_path_factory):
    return pretrained_on(planted, tmp_path_factory.mktemp("foundation"))


@pytest.fixture(scope="module")
def data(planted) -> EEGDataset:
    return dataset_of(planted)


def recipe_of(**changes) -> Challenge1Recipe:
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
            baselines=("constant", "time_bins", "random_weights"), strengths=(1e-3, 1e-1)
        ),
    )
    return recipe.model_copy(update=changes)


def params_in(folder, **changes) -> LearningCurveParams:
    small = {"shares": (0.25, 1.0), "seeds": (0,), "work_dir": str(folder)}
    return LearningCurveParams.model_validate(small | changes)


names = st.lists(st.sampled_from([f"s{n:02}" for n in range(40)]), min_size=2, unique=True)
shares_of = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)


@settings(deadline=None)  # a busy machine is no failure
@given(names, shares_of, st.integers(0, 5))
def test_subsets_are_nested_and_the_test_stays(training, shares, seed):
    kinds = [*["train"] * len(training), "validation", "test"]
    splits = pd.DataFrame({"subject": [*training, "v", "t"], "split": kinds})
    windows = splits[["subject"]].iloc[::-1]
    parts = nested_splits(splits, windows, shares, seed)
    before: set[str] = set()
    for share, part in parts:
        found = set(part.loc[part["split"] == "train", "subject"])
        assert before < found <= set(training)
        assert len(found) == max(2, round(share * len(training)))
        assert part.query("split != 'train'")["subject"].tolist() == ["v", "t"]
        before = found
    (_, first), *_ = nested_splits(splits.sample(frac=1, random_state=seed), windows, shares, seed)
    assert set(first["subject"]) == set(parts[0][1]["subject"])  # whatever the order of the rows


@pytest.mark.parametrize("seed", range(5))
def test_every_subset_has_subjects_of_every_class(seed):
    names = [f"s{n:02}" for n in range(20)]
    splits = pd.DataFrame({"subject": names, "split": "train"})
    classes = pd.Series(["a"] * 2 + ["b"] * 18, index=names)
    for _, part in nested_splits(splits, splits, (0.1, 0.3, 1.0), seed, classes):
        assert classes[part["subject"]].nunique() == 2


def test_subjects_without_windows_count_for_nothing():
    splits = pd.DataFrame({"subject": ["a", "b", "c"], "split": ["train"] * 3})
    ((share, part),) = nested_splits(splits, pd.DataFrame({"subject": ["a", "c"]}), (0.1,), 0)
    assert (share, sorted(part["subject"])) == (1.0, ["a", "c"])
    with pytest.raises(UserError, match="1 training subjects have windows; expected 2 or more"):
        nested_splits(splits, pd.DataFrame({"subject": ["a"]}), (0.1,), 0)


def run_in(folder, foundation, data):
    params = params_in(folder)
    return learning_curve(foundation, data, recipe_of(), params, CPU, INLINE)


@pytest.fixture(scope="module")
def curve(foundation, data, tmp_path_factory):
    """Folder of the runs and their table; it was stopped when half of it was done."""
    folder = tmp_path_factory.mktemp("curve")

    def stop(text):
        if "training subjects" in text:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "say", stop)
        with pytest.raises(KeyboardInterrupt):
            run_in(folder, foundation, data)
    first = results(folder)
    assert len(first) == 1
    table = run_in(folder, foundation, data)
    assert first < results(folder)
    pd.testing.assert_frame_equal(table, run_in(folder, foundation, data))
    return folder, table


def test_every_method_is_scored_on_every_subset(curve):
    folder, table = curve
    methods = {"fine_tuned", "scratch", "constant", "time_bins", "random_weights"}
    assert table.groupby("n_subjects")["method"].apply(set).tolist() == [methods, methods]
    assert table.groupby("n_subjects")["share"].first().tolist() == [0.25, 1.0]
    scores = table.set_index(["method", "n_subjects"])
    assert scores["nrmse"].notna().all()
    assert scores.loc["constant", "nrmse"].between(1, 1.3).all()
    # what is planted is found from three subjects, better from all
    assert scores.loc[("time_bins", 12), "nrmse"] < scores.loc[("time_bins", 3), "nrmse"] < 1
    assert (scores.loc["scratch", "nrmse"] != scores.loc["fine_tuned", "nrmse"]).all()
    assert len(results(folder)) == 2


def listed(foundation, data, folder, recipe=None, **changes):
    params = params_in(folder, **changes)
    stores = stores_in(folder, INLINE, {"curve": folder / "results"})
    return list_runs(foundation, data, recipe or recipe_of(), params, CPU, stores)


def test_keys_follow_what_results_depend_on(foundation, data, tmp_path):
    def keys(recipe=None, given=data, **changes):
        return {run.job.key for run in listed(foundation, given, tmp_path, recipe, **changes)}

    base = keys()
    assert keys(recipe_of(trainer=FineTuningParams(epochs=1, batch_size=16, precision="32",
                                                   work_dir="elsewhere"))) == base  # fmt: skip
    assert keys(shares=(0.25, 0.5, 1.0)) > base
    assert not keys(seeds=(1,)) & base
    assert len(keys(same_steps=False) & base) == 1  # all subjects: gone through as often
    assert not keys(recipe_of(rates=RateParams(head_lr=1e-3))) & base
    later = data.windows.assign(rt=data.windows["rt"] + 0.1)
    assert not keys(given=data.replace(windows=later)) & base


def test_every_run_has_as_many_steps(foundation, data, tmp_path):
    given = recipe_of(trainer=FineTuningParams(epochs=6, early_stopping_patience=2))
    runs = listed(foundation, data, tmp_path, given, shares=(0.25, 0.5, 1.0))
    trainers = [run.recipe.trainer for run in runs]
    assert [(one.epochs, one.early_stopping_patience) for one in trainers] == [
        (24, 8), (12, 4), (6, 2)
    ]  # fmt: skip


def test_mistakes_are_found_before_any_training(foundation, data, tmp_path):
    def wrong(match, splits, **changes):
        with pytest.raises(UserError, match=match):
            learning_curve(
                foundation, data.replace(splits=splits), recipe_of(),
                params_in(tmp_path, **changes), CPU, INLINE,
            )  # fmt: skip

    splits = data.splits
    everyone = np.where(splits["split"] == "validation", "train", splits["split"])
    wrong("no window of the validation subjects", splits.assign(split=everyone))
    swapped = splits.replace({"split": {"train": "test", "test": "train"}})
    wrong(r"5 training subjects .*the model was trained on 12 of", swapped, shares=(0.4,))
    wrong("no test subjects", splits.replace({"split": {"test": "validation"}}))
    assert results(tmp_path) == set()
    with pytest.raises(ValueError, match="expected each one once"):
        LearningCurveParams(shares=(0.5, 0.5))


@pytest.mark.slow
def test_factors_have_a_curve(foundation, data, tmp_path):
    numbers = {name: LabelParams(kind="participant", column=name, type="regression")
               for name in FACTORS}  # fmt: skip
    more = {"attention": {"label": numbers["attention"].model_dump()}}
    windows = data.windows.merge(data.participants[["subject", *FACTORS]], on="subject")
    recipe = Challenge2Recipe(
        label=numbers["externalizing"],
        more_targets=MoreTargets.model_validate(more),
        input=InputParams(unit="volts"),
        evaluation=FactorEvaluationParams(baselines=("constant", "age_sex"), strengths=(1e-2,)),
        **recipe_of().model_dump(include={"plan", "rates", "regularisation", "trainer"}),
    )
    params = params_in(tmp_path, shares=(0.5,), scratch=False)
    table = learning_curve(foundation, data.replace(windows=windows), recipe, params, CPU, INLINE)
    assert set(table["method"]) == {"fine_tuned", "constant", "age_sex"}
    assert table["window_nrmse"].notna().all()
    report = learning_curve_report(table)
    assert "age and sex" in render_text(report)
    assert report.sections[0].header[0].startswith("NRMSE of windows")
