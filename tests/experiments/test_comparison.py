"""Plans and baselines over the same folds: nothing twice, nothing lost, labels where wanted."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fold_data import (
    CPU,
    EVALUATION,
    INLINE,
    PRETRAINING,
    encoders,
    label_recipe,
    pretraining_in,
    results,
    without_clock,
)

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.folds import comparison_table
from hbn_foundation.evaluation.params import FineTuningEvaluationParams, RepeatParams
from hbn_foundation.experiments.comparison import (
    BASELINES,
    compare_plans,
    compared_score,
    labelled_splits,
    list_runs,
)
from hbn_foundation.experiments.folds import cross_validate, make_folds, stores_in
from hbn_foundation.experiments.listing import Fold
from hbn_foundation.experiments.params import ComparisonParams
from hbn_foundation.experiments.running import read_scores, said
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.training.finetuning_params import FineTuningParams, PlanParams, RateParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.supervision.heartbeat import read_beat
from processes import alive, wait_for

pytestmark = pytest.mark.usefixtures("forked_trainings")

REPEATS = RepeatParams(folds=2, repeats=1, n_jobs=1)
PLANS = ("head_only", "scratch")
LONG = {"epochs": 4, "early_stopping_patience": 4, "batch_size": 32, "precision": "32"}
TIMES = LabelParams(kind="trial", column="rt", type="regression")


@pytest.fixture(scope="module")
def folds_dir(tmp_path_factory):
    """Folder of the pretrained encoders, made once for this module."""
    return tmp_path_factory.mktemp("folds")


@pytest.fixture
def params(tmp_path):
    return ComparisonParams(plans=PLANS, repeats=REPEATS, work_dir=str(tmp_path / "runs"))


@pytest.fixture
def stores(folds_dir, params):
    results = {"comparison": Path(params.work_dir) / "results"}
    return stores_in(folds_dir / "folds", INLINE, results)


@pytest.fixture
def folds(dataset, stores):
    runs = make_folds(dataset, PRETRAINING, REPEATS, stores, CPU, (EVALUATION.label, None))
    return list(map(Fold.of, runs))


@pytest.fixture
def compare(dataset, folds_dir):
    def compare(params, recipe=None, learned=None, folder=folds_dir):
        return compare_plans(
            dataset, learned or dataset, pretraining_in(folder), recipe or label_recipe(), params,
            CPU, INLINE,
        )  # fmt: skip

    return compare


def test_every_method_is_scored_on_the_same_windows_and_nothing_twice(
    compare, params, folds, folds_dir, dataset, tmp_path
):
    found = compare(params)
    assert len(results(tmp_path / "runs")) == 6
    table = found.folds
    assert set(table["method"]) == {*PLANS, "frozen_probe", "majority"}
    assert len(table) == 8
    sizes = [(fold.splits["split"] == "train").sum() for fold in folds]
    by_fold = table.groupby("fold")[["n_train", "n_test"]].agg(["min", "max"])
    assert by_fold["n_train"]["min"].tolist() == by_fold["n_train"]["max"].tolist() == sizes
    truth = found.predictions.groupby(["fold", "method"])[["subject", "value"]]
    whole = {key: part.sort_values(["subject", "value"]).values.tolist() for key, part in truth}
    for fold in folds:
        tested = fold.splits.query("split == 'test'")["subject"]
        mine = found.predictions[found.predictions["fold"] == fold.place["fold"]]
        assert set(mine["subject"]) == set(tested)
        assert len({str(whole[fold.place["fold"], name]) for name in table["method"].unique()}) == 1
    plans = table[table["method"].isin(PLANS)].set_index(["method", "fold"])
    assert plans["epochs"].eq(2).all()
    assert (plans["seconds"] > 0).all()
    assert (plans["validation"] > 0).all()
    assert (plans.loc["scratch", "trainable"] > 2 * plans.loc["head_only", "trainable"]).all()
    assert table.loc[table["method"] == "majority", "window_auroc"].eq(0.5).all()
    summary = comparison_table(table, "window_auroc")
    assert summary.loc[summary["reference"], "method"].item() == "head_only"
    again = compare(params)
    pd.testing.assert_frame_equal(found.folds, again.folds)
    pd.testing.assert_frame_equal(found.predictions, again.predictions)
    # another plan and another seed run themselves only
    compare(params.model_copy(update={"plans": ("head_only",), "seeds": (0, 1)}))
    assert len(results(tmp_path / "runs")) == 8
    # the encoders are those of the cross-validation
    kept = encoders(folds_dir / "folds")
    evaluation = EVALUATION.model_copy(update={"repeats": REPEATS, "baselines": ("majority",)})
    cross_validate(dataset, PRETRAINING, evaluation, folds_dir / "folds", experiments=INLINE)
    assert encoders(folds_dir / "folds") == kept
    assert len(kept) == 2


def test_what_an_external_encoder_has_not_is_left_out(dataset, params, tmp_path):
    adapter = {"head": "head", "unit": "uV", "scale": 0.1}
    pretraining = pretraining_in(tmp_path).model_copy(update={
        "encoder": EncoderParams(kind="external", target="small_external:SmallBrain",
                                 adapter=adapter),
        "objective": ObjectiveParams(name="none"),
    })  # fmt: skip
    methods = FineTuningEvaluationParams(baselines=("encoder_input", "majority"))
    recipe = label_recipe(evaluation=methods)
    few = params.model_copy(update={"plans": ("head_only",)})
    found = compare_plans(dataset, dataset, pretraining, recipe, few, CPU, INLINE)
    assert set(found.folds["method"]) == {"head_only", "majority"}


def beat_of_second_epoch(folder):
    """Process of a training that is there."""
    beats = [read_beat(path) for path in folder.glob("folds/work/comparison-*")]
    return next((beat.pid for beat in beats if beat is not None and beat.epoch >= 2), None)


def compare_long(dataset, params, folder):
    recipe = label_recipe(trainer=FineTuningParams(**LONG))
    return compare_plans(dataset, dataset, pretraining_in(folder), recipe, params, CPU, INLINE)


@pytest.mark.slow
def test_a_run_that_is_killed_in_a_training_goes_on_there(dataset, params, folds_dir, tmp_path):
    one = params.model_copy(update={"plans": ("head_only",)})
    plain = compare_long(dataset, one, folds_dir)
    assert plain.incidents == ""
    elsewhere = one.model_copy(update={"work_dir": str(tmp_path / "killed")})
    arguments = (dataset, elsewhere, tmp_path / "killed")
    process = multiprocessing.get_context("spawn").Process(target=compare_long, args=arguments)
    process.start()
    child = wait_for(lambda: beat_of_second_epoch(tmp_path / "killed"))
    os.kill(child, signal.SIGSTOP)  # so that it is not over when its parent is killed
    process.kill()
    process.join()
    wait_for(lambda: not alive(child))
    again = compare_long(*arguments)
    (incident,) = map(json.loads, again.incidents.splitlines())
    assert incident["run"] == {"method": "head_only", "repeat": 0, "fold": 0, "seed": 0}
    assert (incident["kind"], incident["device"]) == ("killed", "cpu")
    assert incident["epoch"] >= 1
    pd.testing.assert_frame_equal(plain.predictions, again.predictions)
    pd.testing.assert_frame_equal(without_clock(plain.folds), without_clock(again.folds))
    assert results(tmp_path / "killed") == results(tmp_path / "runs")
    assert not list((tmp_path / "killed" / "folds" / "work").glob("comparison-*"))


def test_few_labelled_subjects_leave_validation_and_test_alone(folds, dataset, params, compare):
    recipe = label_recipe()
    for fold in folds:
        for n in (2, 4):
            part = labelled_splits(fold.splits, dataset, n, 0, recipe)
            assert (part["split"] == "train").sum() == n
            rest, expected = (
                one[one["split"] != "train"].reset_index(drop=True) for one in (part, fold.splits)
            )
            pd.testing.assert_frame_equal(rest, expected)
        assert labelled_splits(fold.splits, dataset, None, 0, recipe) is fold.splits
    with pytest.raises(UserError, match="labelled_subjects=99: a fold has"):
        compare(params.model_copy(update={"labelled_subjects": 99}))


def test_labelled_subjects_are_of_both_classes(folds, dataset):
    names = sorted(dataset.participants["subject"])
    training = folds[0].splits.query("split == 'train'")["subject"].tolist()
    people = pd.DataFrame({"subject": names})
    people["group"] = people["subject"].eq(training[0]).map({True: "a", False: "b"})
    recipe = label_recipe(label=LabelParams(kind="participant", column="group"))
    for seed in range(10):
        few = labelled_splits(
            folds[0].splits, dataset.replace(participants=people), 2, seed, recipe
        )
        kept = few.loc[few["split"] == "train", "subject"]
        assert people.loc[people["subject"].isin(kept), "group"].nunique() == 2


def test_a_fold_without_a_score_is_missing_and_counted(folds, dataset, params, stores, tmp_path):
    """A test fold of one class: NaN in a column of numbers, said in words, left out of pairs."""
    runs = list_runs(folds, dataset, label_recipe(), params, stores, CPU)
    first, second = (run for run in runs if run.method == "head_only")
    for run, auroc in ((first, None), (second, 0.8)):
        rows = [
            {"method": "head_only", "window_auroc": auroc, "n_train": 4, "n_test": 2},
            {"method": "majority", "window_auroc": None if auroc is None else 0.5, "n_train": 4,
             "n_test": 2},
        ]  # fmt: skip
        out = tmp_path / "out"
        out.mkdir()
        (out / "scores.json").write_text(json.dumps(rows))
        pd.DataFrame({"subject": ["a"]}).to_parquet(out / "predictions.parquet")
        stores.store("comparison").publish(run.job.key, out)
    tables = [read_scores([run], stores) for run in (first, second)]
    assert tables[0]["window_auroc"].dtype == float
    assert said(first, stores) == "repeat 1 fold 1, seed 0: AUROC missing, one test value only"
    assert "head only 0.800, majority class 0.500" in said(second, stores)
    (pair,) = comparison_table(pd.concat(tables), "window_auroc").dropna(subset="ahead_by").iloc
    assert pair["ahead_by"] == pytest.approx(0.3)
    assert pair["missing"] == "1 of 2 folds without a score"


def test_keys_follow_what_results_depend_on(folds, dataset, params, stores, of_trials):
    def keys(recipe=None, learned=dataset, **changes):
        given = params.model_copy(update=changes)
        runs = list_runs(folds[:1], learned, recipe or label_recipe(), given, stores, CPU)
        return {run.method: run.job.key for run in runs}

    base = keys()
    # phase2_epochs is a check of the configured plan, which other ones are compared without
    assert keys(label_recipe(plan=PlanParams(phase1_epochs=1, phase2_epochs=1))) == base
    for other in (keys(label_recipe(rates=RateParams(head_lr=2e-3))), keys(seeds=(1,))):
        assert other[BASELINES] == base[BASELINES]
        assert all(other[plan] != base[plan] for plan in PLANS)
    assert not set(keys(labelled_subjects=3).values()) & set(base.values())
    place = FineTuningParams(epochs=2, batch_size=32, precision="32", work_dir="elsewhere")
    assert keys(label_recipe(trainer=place)) == base
    recipe = label_recipe(label=TIMES)
    trials = keys(recipe, of_trials)
    assert keys(recipe, of_trials.replace(windows=of_trials.windows.copy())) == trials
    later = of_trials.windows.assign(rt=of_trials.windows["rt"] + 0.1)
    for windows in (later, of_trials.windows.iloc[1:]):
        others = keys(recipe, of_trials.replace(windows=windows))
        assert not set(others.values()) & set(trials.values())


def test_mistakes_are_found_before_any_pretraining(compare, params, tmp_path):
    def wrong(match, recipe=None, **changes):
        given = params.model_copy(update=changes)
        with pytest.raises(UserError, match=match):
            compare(given, recipe, folder=tmp_path / "none")

    late = label_recipe(plan=PlanParams(phase1_epochs=5))
    wrong("phase1_epochs", late, plans=("two_phase",))
    monitor = label_recipe(trainer=FineTuningParams(epochs=2, monitor="nrmse"))
    wrong("nrmse is not computed for classes", monitor)
    wrong("score=mae: not for classes", score="mae")
    wrong("^finetuning.keep_head=true: .* expected false", label_recipe(keep_head=True))
    other = label_recipe(checkpoint="challenge1_checkpoint")
    wrong("^finetuning.checkpoint=challenge1_checkpoint: .* expected foundation_", other)
    assert encoders(tmp_path / "none" / "folds") == set()
    assert compared_score(None, True, False) == "nrmse"
    with pytest.raises(UserError, match="expected each one once"):
        ComparisonParams.model_validate({"seeds": [0, 0]})


@pytest.fixture
def of_trials(dataset):
    """Windows of trials: every third one of the task, begun half a second later."""
    windows = dataset.windows[dataset.windows["task"] == "count"].iloc[::3].reset_index(drop=True)
    random = np.random.default_rng(1)
    windows = windows.assign(
        start=windows["start"].clip(upper=1750) + 50,
        trial=windows.groupby("recording").cumcount() + 1,
        stimulus=windows["start"] / 100,
        rt=random.uniform(1, 2, len(windows)).round(3),
    )
    return dataset.replace(windows=windows)


def test_trials_are_learned_from_their_own_windows(compare, params, of_trials, folds_dir):
    one = params.model_copy(update={"plans": ("head_only",)})
    found = compare(one, label_recipe(label=TIMES), of_trials)
    assert set(found.folds["method"]) == {"head_only", "frozen_probe", "majority"}
    assert found.folds["nrmse"].notna().all()
    tuned = found.predictions[found.predictions["method"] == "head_only"]
    # each trial is tested once, with its own response time
    merged = of_trials.windows.merge(
        tuned, left_on=["subject", "rt"], right_on=["subject", "value"]
    )
    assert len(merged) == len(tuned) == len(of_trials.windows)


def test_subjects_without_trials_count_for_nothing(compare, params, folds, of_trials):
    windows, splits = of_trials.windows, folds[0].splits
    tested = splits.query("split == 'test'")["subject"]
    without = of_trials.replace(windows=windows[~windows["subject"].isin(tested)])
    with pytest.raises(UserError, match=r"^comparison, repeat 1 fold 1: .* no window of the test"):
        compare(params, label_recipe(label=TIMES), without)
    training = splits.query("split == 'train'")["subject"].tolist()
    few = of_trials.replace(windows=windows[~windows["subject"].isin(training[:-2])])
    kept = labelled_splits(folds[0].splits, few, 2, 0, label_recipe(label=TIMES))
    assert sorted(kept.query("split == 'train'")["subject"]) == sorted(training[-2:])
