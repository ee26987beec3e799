"""Plans and baselines over the same folds: nothing twice, nothing lost, labels where wanted."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation import cross_validation, finetuning_folds
from hbn_foundation.evaluation.cross_validation import cross_validate, make_folds
from hbn_foundation.evaluation.finetuning_comparison import comparison_table, pairs_table
from hbn_foundation.evaluation.finetuning_folds import (
    compare_plans,
    compared_score,
    labelled_splits,
    list_runs,
)
from hbn_foundation.evaluation.finetuning_runs import BASELINES, read_result, result_path
from hbn_foundation.evaluation.params import (
    ComparisonParams,
    EvaluationParams,
    FineTuningEvaluationParams,
    RepeatParams,
)
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.finetuning_params import FineTuningParams, PlanParams, RateParams
from hbn_foundation.training.supervision.heartbeat import read_beat
from processes import alive, wait_for

REPEATS = RepeatParams(folds=2, repeats=1, n_jobs=1)
PLANS = ("head_only", "scratch")
LONG = {"epochs": 4, "early_stopping_patience": 4, "batch_size": 32, "precision": "32"}


def recipe_of(**changes) -> LabelRecipe:
    recipe = LabelRecipe(
        plan=PlanParams(phase1_epochs=1),
        rates=RateParams(head_lr=1e-2),
        trainer=FineTuningParams(epochs=2, batch_size=32, precision="32"),
        evaluation=FineTuningEvaluationParams(
            strengths=(1e-3, 1e-1), max_windows=40, baselines=("frozen_probe", "majority")
        ),
    )
    return recipe.model_copy(update=changes)


@pytest.fixture(scope="module")
def pretrained_at(tmp_path_factory):
    """Folder of the pretrained encoders, made once for this module."""
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture
def folds(toy, recipe, pretrained_at):
    return make_folds(
        EEGDataset(*toy), recipe, EvaluationParams(), REPEATS, pretrained_at,
        device_plan={"chosen": "cpu"}, supervised=False,
    )  # fmt: skip


@pytest.fixture
def params(tmp_path):
    return ComparisonParams(plans=PLANS, repeats=REPEATS, work_dir=str(tmp_path / "runs"))


def test_every_method_is_scored_on_the_same_windows(folds, params):
    compared = compare_plans(folds, recipe_of(), params, supervised=False)
    table = compared.folds
    assert set(table["method"]) == {*PLANS, "frozen_probe", "majority"}
    assert len(table) == 8
    sizes = [(fold.dataset.splits["split"] == "train").sum() for fold in folds]
    by_fold = table.groupby("fold")[["n_train", "n_test"]].agg(["min", "max"])
    assert by_fold["n_train"]["min"].tolist() == by_fold["n_train"]["max"].tolist() == sizes
    truth = compared.predictions.groupby(["fold", "method"])[["subject", "value"]]
    whole = {key: part.sort_values(["subject", "value"]).values.tolist() for key, part in truth}
    for fold in (0, 1):
        tested = folds[fold].dataset.splits.query("split == 'test'")["subject"]
        assert set(compared.predictions.query("fold == @fold")["subject"]) == set(tested)
        assert len({str(whole[fold, method]) for method in table["method"].unique()}) == 1
    plans = table[table["method"].isin(PLANS)].set_index(["method", "fold"])
    assert plans["epochs"].eq(2).all()
    assert (plans["seconds"] > 0).all()
    assert (plans["validation"] > 0).all()
    assert (plans.loc["scratch", "trainable"] > 2 * plans.loc["head_only", "trainable"]).all()
    assert table.loc[table["method"] == "majority", "window_auroc"].eq(0.5).all()
    assert plans["window_auroc"].mean() > 0.6
    summary = comparison_table(table, "window_auroc")
    assert summary.loc[summary["reference"], "method"].item() == "head_only"
    assert not list(folds[0].work_dir.glob("pretraining-*"))


def test_a_killed_run_goes_on_and_nothing_is_done_twice(folds, params, tmp_path, monkeypatch):
    done = []
    original = finetuning_folds.carry_out

    def counting(run, stop_at=3):
        if len(done) == stop_at:
            raise KeyboardInterrupt
        done.append((run.fold.fold, run.method, run.seed))
        original(run)

    monkeypatch.setattr(finetuning_folds, "carry_out", counting)
    with pytest.raises(KeyboardInterrupt):
        compare_plans(folds, recipe_of(), params, supervised=False)
    monkeypatch.setattr(finetuning_folds, "carry_out", lambda run: counting(run, None))
    first = compare_plans(folds, recipe_of(), params, supervised=False)
    assert len(done) == len(set(done)) == 6
    again = compare_plans(folds, recipe_of(), params, supervised=False)
    assert len(done) == 6
    pd.testing.assert_frame_equal(first.folds, again.folds)
    pd.testing.assert_frame_equal(first.predictions, again.predictions)
    # another plan and another seed run themselves only
    more = params.model_copy(update={"plans": ("head_only",), "seeds": (0, 1)})
    compare_plans(folds, recipe_of(), more, supervised=False)
    assert done[6:] == [(0, "head_only", 1), (1, "head_only", 1)]
    assert not list((tmp_path / "runs").glob("training-*"))
    assert not list((tmp_path / "runs").glob("*.tmp"))


@pytest.mark.slow
def test_supervised_runs_have_the_same_names_and_results(folds, params, tmp_path):
    """And one that is killed in a training goes on there: its folder is not made anew."""
    one = params.model_copy(update={"plans": ("head_only",)})
    recipe = recipe_of(trainer=FineTuningParams(**LONG))
    plain = compare_plans(folds[:1], recipe, one, supervised=False)
    assert plain.incidents == ""
    elsewhere = one.model_copy(update={"work_dir": str(tmp_path / "supervised")})
    arguments = (folds[:1], recipe, elsewhere, None, True)
    process = multiprocessing.get_context("spawn").Process(target=compare_plans, args=arguments)
    process.start()
    child = wait_for(lambda: in_the_second_epoch(tmp_path / "supervised"))
    os.kill(child, signal.SIGSTOP)  # so that it is not over when its parent is killed
    process.kill()
    process.join()
    wait_for(lambda: not alive(child))
    supervised = compare_plans(*arguments)
    incident = json.loads(supervised.incidents)
    assert incident["run"] == {"method": "head_only", "repeat": 0, "fold": 0, "seed": 0}
    assert (incident["kind"], incident["device"]) == ("killed", "cpu")
    assert incident["epoch"] >= 1
    pd.testing.assert_frame_equal(plain.predictions, supervised.predictions)
    clock = ["seconds"]
    pd.testing.assert_frame_equal(
        plain.folds.drop(columns=clock), supervised.folds.drop(columns=clock)
    )
    names = [
        {path.name for path in Path(folder).glob("run-*.json")}
        for folder in (one.work_dir, elsewhere.work_dir)
    ]
    assert names[0] == names[1]
    assert not list((tmp_path / "supervised").glob("training-*"))


def in_the_second_epoch(work_dir: Path) -> int | None:
    """Process of a training that is there."""
    beats = [read_beat(path) for path in work_dir.glob("training-*/*")]
    return next((beat.pid for beat in beats if beat is not None and beat.epoch >= 2), None)


def test_the_encoders_are_those_of_the_cross_validation(
    toy, recipe, quick, folds, params, pretrained_at, monkeypatch
):
    from hbn_foundation.training import pretrain

    compare_plans(folds, recipe_of(), params, supervised=False)

    def never(*_args, **_options):
        raise AssertionError("pretrained twice")

    monkeypatch.setattr(pretrain, "pretrain", never)
    changes = {"repeats": REPEATS, "baselines": ("majority",)}
    scored = cross_validate(
        EEGDataset(*toy), recipe, quick.model_copy(update=changes), pretrained_at, supervised=False
    )
    assert len(scored) == 4


def test_few_labelled_subjects_leave_validation_and_test_alone(folds, params):
    for fold in folds:
        few, more = (labelled_splits(fold, n, seed=0) for n in (2, 4))
        for part, n in ((few, 2), (more, 4)):
            assert (part["split"] == "train").sum() == n
            rest = part[part["split"] != "train"].reset_index(drop=True)
            expected = fold.dataset.splits[fold.dataset.splits["split"] != "train"].reset_index(
                drop=True
            )
            pd.testing.assert_frame_equal(rest, expected)
        assert labelled_splits(fold, None, 0) is fold.dataset.splits
    few = params.model_copy(update={"plans": ("head_only",), "labelled_subjects": 3})
    found = compare_plans(folds, recipe_of(), few, supervised=False)
    assert found.folds["n_train"].eq(3).all()
    with pytest.raises(UserError, match="labelled_subjects=99: a fold has"):
        labelled_splits(folds[0], 99, 0)


def test_labelled_subjects_are_of_both_classes(folds):
    fold = folds[0]
    names = sorted(fold.dataset.participants["subject"])
    groups = ["a" if number % 7 == 0 else "b" for number in range(len(names))]
    people = pd.DataFrame({"subject": names, "group": groups})
    label = LabelParams(kind="participant", column="group")
    dataset = fold.dataset.replace(participants=people)
    training = dataset.splits.loc[dataset.splits["split"] == "train", "subject"]
    assert people.loc[people["subject"].isin(training), "group"].nunique() == 2
    for seed in range(10):
        few = labelled_splits(replace(fold, dataset=dataset), 2, seed, label=label)
        kept = few.loc[few["split"] == "train", "subject"]
        assert people.loc[people["subject"].isin(kept), "group"].nunique() == 2


def test_a_fold_without_a_score_is_missing_and_counted(folds, params, tmp_path):
    """A test fold of one class: NaN in a column of numbers, said in words, left out of pairs."""
    first, second = (
        run for run in list_runs(folds, recipe_of(), params) if run.method == "head_only"
    )
    paths = [result_path(first), result_path(second)]
    for path, auroc in zip(paths, [None, 0.8], strict=True):
        rows = [
            {"method": "head_only", "window_auroc": auroc, "n_train": 4, "n_test": 2},
            {"method": "majority", "window_auroc": None if auroc is None else 0.5, "n_train": 4,
             "n_test": 2},
        ]  # fmt: skip
        path.write_text(json.dumps(rows))
        pd.DataFrame({"subject": ["a"]}).to_parquet(path.with_suffix(".parquet"))
    tables = [read_result(run, path)[0] for run, path in zip((first, second), paths, strict=True)]
    assert tables[0]["window_auroc"].dtype == float
    assert "fold 1: head_only, seed 0: no score" in finetuning_folds._said(first)
    assert "AUROC" in finetuning_folds._said(second).upper()
    pair = pairs_table(pd.concat(tables), "window_auroc").iloc[0]
    assert pair["folds"] == 1
    assert pair["ahead_by"] == pytest.approx(0.3)


def test_folds_of_a_label_of_subjects_test_both_classes(toy, recipe, pretrained_at):
    subjects = sorted(toy.windows["subject"].unique())
    people = pd.DataFrame({"subject": subjects})
    people["group"] = ["ill"] * 4 + ["well"] * (len(subjects) - 4)
    label = LabelParams(kind="participant", column="group")
    for seed in range(5):
        repeats = RepeatParams(folds=2, repeats=2, seed=seed)
        for fold in make_folds(
            EEGDataset(*toy).replace(participants=people), recipe, EvaluationParams(), repeats,
            pretrained_at, device_plan={"chosen": "cpu"}, label=label,
        ):  # fmt: skip
            classes = fold.dataset.splits.merge(people).groupby("split")["group"].nunique()
            assert (classes == 2).all(), (seed, classes)


def test_names_of_results_follow_what_they_depend_on(folds, params):
    def names(recipe=None, **changes):
        runs = list_runs(folds[:1], recipe or recipe_of(), params.model_copy(update=changes))
        return {run.method: result_path(run).name for run in runs}

    base = names()
    other_rates = names(recipe_of(rates=RateParams(head_lr=2e-3)))
    assert other_rates[BASELINES] == base[BASELINES]
    assert all(other_rates[plan] != base[plan] for plan in PLANS)
    fewer = names(recipe_of(), labelled_subjects=3)
    assert not set(fewer.values()) & set(base.values())
    place = FineTuningParams(epochs=2, batch_size=32, precision="32", work_dir="elsewhere")
    assert names(recipe_of(trainer=place)) == base


def test_mistakes_are_found_before_any_pretraining(folds, params, tmp_path, monkeypatch):
    folds = [replace(fold, work_dir=tmp_path / "no encoders yet") for fold in folds]

    def never(*_):
        raise AssertionError("pretrained")

    monkeypatch.setattr(cross_validation, "_pretrain", never)
    with pytest.raises(AssertionError, match="pretrained"):
        compare_plans(folds, recipe_of(), params, supervised=False)
    late = recipe_of(plan=PlanParams(phase1_epochs=5))
    two = params.model_copy(update={"plans": ("two_phase",)})
    with pytest.raises(UserError, match="phase1_epochs"):
        compare_plans(folds, late, two, supervised=False)
    monitor = recipe_of(trainer=FineTuningParams(epochs=2, monitor="nrmse"))
    with pytest.raises(UserError, match="nrmse is not computed for classes"):
        compare_plans(folds, monitor, params)
    with pytest.raises(UserError, match="score=mae: not for classes"):
        compare_plans(folds, recipe_of(), params.model_copy(update={"score": "mae"}))
    assert compared_score(None, True) == "nrmse"
    with pytest.raises(UserError, match="expected each one once"):
        ComparisonParams.model_validate({"seeds": [0, 0]})


@pytest.fixture
def of_trials(toy) -> pd.DataFrame:
    """Windows of trials: every third one of the task, begun half a second later."""
    windows = toy.windows[toy.windows["task"] == "count"].iloc[::3].reset_index(drop=True)
    random = np.random.default_rng(1)
    return windows.assign(
        start=windows["start"].clip(upper=1350) + 50,
        trial=windows.groupby("recording").cumcount() + 1,
        stimulus=windows["start"] / 100,
        rt=random.uniform(1, 2, len(windows)).round(3),
    )


def test_trials_are_learned_from_their_own_windows(folds, params, of_trials):
    recipe = recipe_of(label=LabelParams(kind="trial", column="rt", type="regression"))
    one = params.model_copy(update={"plans": ("head_only",)})
    found = compare_plans(folds, recipe, one, of_trials, supervised=False)
    assert set(found.folds["method"]) == {"head_only", "frozen_probe", "majority"}
    assert found.folds["nrmse"].notna().all()
    tuned = found.predictions[found.predictions["method"] == "head_only"]
    # each trial is tested once, with its own response time
    merged = of_trials.merge(tuned, left_on=["subject", "rt"], right_on=["subject", "value"])
    assert len(merged) == len(tuned) == len(of_trials)
    # the encoders are those that were pretrained on the ordinary windows
    assert all(fold.checkpoint_path.is_dir() for fold in folds)


def test_results_of_trials_follow_their_windows_and_labels(folds, params, of_trials):
    recipe = recipe_of(label=LabelParams(kind="trial", column="rt", type="regression"))

    def keys(windows):
        return {run.key for run in list_runs(folds[:1], recipe, params, windows)}

    base = keys(of_trials)
    assert keys(of_trials.copy()) == base
    assert not keys(of_trials.assign(rt=of_trials["rt"] + 0.1)) & base
    assert not keys(of_trials.iloc[1:]) & base


def test_subjects_without_trials_count_for_nothing(folds, params, of_trials):
    tested = folds[0].dataset.splits.query("split == 'test'")["subject"]
    without = of_trials[~of_trials["subject"].isin(tested)]
    recipe = recipe_of(label=LabelParams(kind="trial", column="rt", type="regression"))
    with pytest.raises(UserError, match="test subjects of repeat 1 fold 1 has a known label"):
        compare_plans(folds, recipe, params, without)
    training = folds[0].dataset.splits.query("split == 'train'")["subject"].tolist()
    few = of_trials[~of_trials["subject"].isin(training[:-2])]
    kept = labelled_splits(folds[0], 2, 0, few)
    assert sorted(kept.query("split == 'train'")["subject"]) == sorted(training[-2:])
