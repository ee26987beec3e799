"""The curve over training subjects: nested subsets, one test, nothing done twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge import learning_runs
from hbn_foundation.evaluation.challenge.learning_runs import (
    learning_curve,
    list_runs,
    nested_splits,
)
from hbn_foundation.evaluation.params import (
    FactorEvaluationParams,
    LearningCurveParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.evaluation.report.experiments import learning_curve_report
from hbn_foundation.evaluation.report.render import render_text
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
from planted_trials import FACTORS, dataset_of, pretrained_on

CPU = {"chosen": "cpu"}
TIMES = LabelParams(kind="trial", column="rt", type="regression")
CONVOLUTIONS = {"tokens": ("time",), "time": {"kind": "conv", "width": 8, "kernel": 9, "depth": 0}}


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


@pytest.fixture(scope="module")
def curve(foundation, data, tmp_path_factory):
    """Folder of the runs and their table; one run was killed when half of it was done."""
    folder = tmp_path_factory.mktemp("curve")

    def run_in(folder):
        params = params_in(folder)
        return learning_curve(foundation, data, recipe_of(), params, CPU, supervised=False)

    done = []
    original = learning_runs.carry_out

    def once(run):
        if done:
            raise KeyboardInterrupt
        done.append(run.n_subjects)
        original(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_runs, "carry_out", once)
        with pytest.raises(KeyboardInterrupt):
            run_in(folder)
        patch.setattr(learning_runs, "carry_out", lambda run: [done.append(run.n_subjects),
                                                               original(run)])  # fmt: skip
        table = learning_curve(
            foundation, data, recipe_of(), params_in(folder), CPU, supervised=False
        )
        again = learning_curve(
            foundation, data, recipe_of(), params_in(folder), CPU, supervised=False
        )
    assert done == [3, 12]
    pd.testing.assert_frame_equal(table, again)
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
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json"]


def test_names_of_results_follow_what_they_depend_on(foundation, data, tmp_path):
    def keys(recipe=None, given=data, **changes):
        params = params_in(tmp_path, **changes)
        return {run.key for run in list_runs(foundation, given, recipe or recipe_of(), params, CPU)}

    base = keys()
    assert keys(recipe_of(trainer=FineTuningParams(epochs=1, batch_size=16, precision="32",
                                                   work_dir="elsewhere"))) == base  # fmt: skip
    assert keys(shares=(0.25, 0.5, 1.0)) > base
    assert not keys(seeds=(1,)) & base
    assert len(keys(same_steps=False) & base) == 1  # everybody: gone through as often
    assert not keys(recipe_of(rates=RateParams(head_lr=1e-3))) & base
    later = data.windows.assign(rt=data.windows["rt"] + 0.1)
    assert not keys(given=data.replace(windows=later)) & base


def test_every_run_has_as_many_steps(foundation, data, tmp_path):
    params = params_in(tmp_path, shares=(0.25, 0.5, 1.0))
    given = recipe_of(trainer=FineTuningParams(epochs=6, early_stopping_patience=2))
    trainers = [run.recipe.trainer for run in list_runs(foundation, data, given, params, CPU)]
    assert [(one.epochs, one.early_stopping_patience) for one in trainers] == [
        (24, 8), (12, 4), (6, 2)
    ]  # fmt: skip


def test_mistakes_are_found_before_any_training(foundation, data, tmp_path, monkeypatch):
    def never(_):
        raise AssertionError("trained")

    monkeypatch.setattr(learning_runs, "carry_out", never)
    everyone = np.where(data.splits["split"] == "validation", "train", data.splits["split"])
    seen = data.replace(splits=data.splits.assign(split=everyone))
    with pytest.raises(UserError, match="no window of the validation subjects"):
        learning_curve(foundation, seen, recipe_of(), params_in(tmp_path), CPU, supervised=False)
    swapped = data.splits.replace({"split": {"train": "test", "test": "train"}})
    with pytest.raises(UserError, match=r"5 training subjects .*the model was trained on 12 of"):
        learning_curve(
            foundation, data.replace(splits=swapped), recipe_of(),
                       params_in(tmp_path, shares=(0.4,)), CPU, supervised=False)  # fmt: skip
    nobody = data.splits.replace({"split": {"test": "validation"}})
    with pytest.raises(UserError, match="no test subjects"):
        learning_curve(
            foundation,
            data.replace(splits=nobody),
            recipe_of(),
            params_in(tmp_path),
            CPU,
            supervised=False,
        )
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
    table = learning_curve(foundation, data.replace(windows=windows), recipe, params, CPU)
    assert set(table["method"]) == {"fine_tuned", "constant", "age_sex"}
    assert table["window_nrmse"].notna().all()
    report = learning_curve_report(table)
    assert "age and sex" in render_text(report)
    assert report.sections[0].header[0].startswith("NRMSE of windows")
