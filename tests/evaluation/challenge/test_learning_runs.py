"""The curve over training subjects: nested subsets, one test, nothing done twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge import learning_runs
from hbn_foundation.evaluation.challenge.learning_curve import (
    curve_scores,
    learning_curve_figure,
    learning_curve_text,
)
from hbn_foundation.evaluation.challenge.learning_runs import (
    CurveData,
    CurveRecipe,
    learning_curve,
    list_runs,
    nested_splits,
)
from hbn_foundation.evaluation.challenge.params import (
    FactorEvaluationParams,
    LearningCurveParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.training.finetuning.extras import Extras
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from hbn_foundation.training.supervision.params import SupervisionParams
from planted_trials import FACTORS, pretrained_on

CPU = {"chosen": "cpu"}
TIMES = LabelParams(kind="trial", column="rt", type="regression")
CONVOLUTIONS = {"tokens": ("time",), "time": {"kind": "conv", "width": 8, "kernel": 9, "depth": 0}}


@pytest.fixture(scope="module")
def data(planted, tmp_path_factory) -> CurveData:
    foundation = pretrained_on(planted, tmp_path_factory.mktemp("foundation"))
    return CurveData(foundation, planted.store, planted.windows, planted.splits, planted.people)


def recipe_of(**changes) -> CurveRecipe:
    recipe = CurveRecipe(
        TIMES,
        HeadParams(kind="distribution", dropout=0.0, bins=40),
        PlanParams(strategy="full"),
        RateParams(head_lr=5e-3),
        RegularisationParams(hide_probability=0.0),
        FineTuningParams(epochs=1, batch_size=16, precision="32"),
        Extras(
            MoreTargets.model_validate({}),
            AddedTokenParams.model_validate(CONVOLUTIONS),
            InputParams(unit="volts"),
        ),
        ResponseTimeEvaluationParams(
            baselines=("constant", "time_bins", "random_weights"), strengths=(1e-3, 1e-1)
        ),
    )
    return recipe._replace(**changes)


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
def curve(data, tmp_path_factory):
    """Folder of the runs and their table; one run was killed when half of it was done."""
    folder = tmp_path_factory.mktemp("curve")
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
            learning_curve(data, recipe_of(), params_in(folder), CPU)
        patch.setattr(learning_runs, "carry_out", lambda run: [done.append(run.n_subjects),
                                                               original(run)])  # fmt: skip
        table = learning_curve(data, recipe_of(), params_in(folder), CPU)
        again = learning_curve(data, recipe_of(), params_in(folder), CPU)
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


def test_table_and_figure(curve):
    table = curve[1]
    text = learning_curve_text(table)
    assert "3 (25%)" in text.replace(" %", "%")
    assert "from scratch" in text
    said = " ".join(text.split())
    assert said.count(" ahead") == 4
    gap = table.groupby(["method", "n_subjects"])["nrmse"].mean().unstack()
    for n, gain in (gap.loc["scratch"] - gap.loc["fine_tuned"]).items():
        way = "ahead by" if gain > 0 else "NOT ahead, behind by"
        assert (
            f"with {n} subjects {way} {abs(gain):.3f}" in said.partition("from scratch, it is")[2]
        )
    assert max(map(len, text.splitlines())) <= 110
    assert "±" not in text
    twice = pd.concat([table, table.assign(seed=1, nrmse=table["nrmse"] + 0.1)])
    assert "± 0.071" in learning_curve_text(twice)
    figure = learning_curve_figure(table, curve_scores(table))
    assert len(figure.axes) == 2


def test_names_of_results_follow_what_they_depend_on(data, tmp_path):
    def keys(recipe=None, given=data, **changes):
        params = params_in(tmp_path, **changes)
        return {run.key for run in list_runs(given, recipe or recipe_of(), params, CPU)}

    base = keys()
    assert keys(recipe_of(trainer=FineTuningParams(epochs=1, batch_size=16, precision="32",
                                                   work_dir="elsewhere"))) == base  # fmt: skip
    assert keys(shares=(0.25, 0.5, 1.0)) > base
    assert not keys(seeds=(1,)) & base
    assert len(keys(same_steps=False) & base) == 1  # everybody: gone through as often
    assert not keys(recipe_of(rates=RateParams(head_lr=1e-3))) & base
    later = data.windows.assign(rt=data.windows["rt"] + 0.1)
    assert not keys(given=data._replace(windows=later)) & base


def test_every_run_has_as_many_steps(data, tmp_path):
    params = params_in(tmp_path, shares=(0.25, 0.5, 1.0))
    given = recipe_of(trainer=FineTuningParams(epochs=6, early_stopping_patience=2))
    trainers = [run.recipe.trainer for run in list_runs(data, given, params, CPU)]
    assert [(one.epochs, one.early_stopping_patience) for one in trainers] == [
        (24, 8), (12, 4), (6, 2)
    ]  # fmt: skip


def test_mistakes_are_found_before_any_training(data, tmp_path, monkeypatch):
    def never(_):
        raise AssertionError("trained")

    monkeypatch.setattr(learning_runs, "carry_out", never)
    everyone = np.where(data.splits["split"] == "validation", "train", data.splits["split"])
    seen = data._replace(splits=data.splits.assign(split=everyone))
    with pytest.raises(UserError, match="no window of the validation subjects"):
        learning_curve(seen, recipe_of(), params_in(tmp_path), CPU)
    swapped = data.splits.replace({"split": {"train": "test", "test": "train"}})
    with pytest.raises(UserError, match=r"5 training subjects .*the model was trained on 12 of"):
        learning_curve(data._replace(splits=swapped), recipe_of(),
                       params_in(tmp_path, shares=(0.4,)), CPU)  # fmt: skip
    nobody = data.splits.replace({"split": {"test": "validation"}})
    with pytest.raises(UserError, match="no test subjects"):
        learning_curve(data._replace(splits=nobody), recipe_of(), params_in(tmp_path), CPU)
    with pytest.raises(ValueError, match="expected each one once"):
        LearningCurveParams(shares=(0.5, 0.5))


@pytest.mark.slow
def test_factors_have_a_curve(data, tmp_path):
    numbers = {name: LabelParams(kind="participant", column=name, type="regression")
               for name in FACTORS}  # fmt: skip
    more = {"attention": {"label": numbers["attention"].model_dump()}}
    windows = data.windows.merge(data.participants[["subject", *FACTORS]], on="subject")
    recipe = recipe_of(
        label=numbers["externalizing"], head=HeadParams(),
        extras=Extras(MoreTargets.model_validate(more), AddedTokenParams(),
                      InputParams(unit="volts")),
        evaluation=FactorEvaluationParams(baselines=("constant", "age_sex"), strengths=(1e-2,)),
    )  # fmt: skip
    params = params_in(tmp_path, shares=(0.5,), scratch=False)
    table = learning_curve(data._replace(windows=windows), recipe, params, CPU, SupervisionParams())
    assert set(table["method"]) == {"fine_tuned", "constant", "age_sex"}
    assert curve_scores(table) == ("window_nrmse", "subject_r")
    assert table["window_nrmse"].notna().all()
    assert "age and sex" in learning_curve_text(table)
