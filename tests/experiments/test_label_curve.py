"""A label's curve over labelled subjects: nested, balanced, the same test, nothing done twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fold_data import INLINE, PRETRAINING, encoders, label_recipe, make_dataset

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.curve_summary import curve_summary
from hbn_foundation.evaluation.params import (
    EvaluationParams,
    FineTuningEvaluationParams,
    RepeatParams,
)
from hbn_foundation.experiments import label_curve as module
from hbn_foundation.experiments.folds import cross_validate, make_folds
from hbn_foundation.experiments.label_curve import (
    Fold,
    encoders_of_folds,
    label_curve,
    list_draws,
    list_runs,
    stores_of,
)
from hbn_foundation.experiments.params import LabelCurveParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.scores import within_auroc
from hbn_foundation.signals.params import ContextParams

pytestmark = pytest.mark.usefixtures("forked_trainings")

CPU = {"chosen": "cpu"}
REPEATS = RepeatParams(folds=2, repeats=1, n_jobs=1)
STRATIFIED = FineTuningEvaluationParams(
    strengths=(1e-3, 1e-1), max_windows=40, bootstraps=50, stratify_scores_by="first"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve subjects, of whom four began with the rare state."""
    data = make_dataset(tmp_path_factory.mktemp("store"))
    first = ["open" if n % 3 == 0 else "closed" for n in range(12)]
    return data.replace(participants=data.participants.assign(first=first))


def params_in(folder, **changes) -> LabelCurveParams:
    small = {
        "subjects": (2, 4), "seeds": (0, 1), "trained_seeds": (1,), "repeats": REPEATS,
        "frozen": ("pretrained", "random_weights", "band_power", "majority"),
        "work_dir": str(folder / "curve"),
    }  # fmt: skip
    return LabelCurveParams.model_validate(small | changes)


def pretraining_in(folder):
    trainer = PRETRAINING.trainer.model_copy(update={"work_dir": str(folder)})
    return PRETRAINING.model_copy(update={"trainer": trainer})


def run_in(folder, dataset, recipe=None, **changes):
    changes = {"subjects": (3,)} | changes
    return label_curve(
        None, dataset, recipe or label_recipe(evaluation=STRATIFIED), pretraining_in(folder),
        params_in(folder, **changes), CPU, INLINE,
    )  # fmt: skip


def results(folder):
    return {path.name for path in folder.glob("curve/*/??/*")}


@pytest.fixture(scope="module")
def curve(dataset, tmp_path_factory):
    """Folder, scores and predictions of a curve that was stopped at its first result."""
    folder = tmp_path_factory.mktemp("curve")

    def stop(text):
        if "within subjects" in text:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "say", stop)
        with pytest.raises(KeyboardInterrupt):
            run_in(folder, dataset)
    first = results(folder)
    assert len(first) == 1
    scores, predictions = run_in(folder, dataset)
    assert first < results(folder)
    assert len(results(folder)) == 2 + 2  # fitted and trained in each fold
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("curve/*/??/*")}
    again, _ = run_in(folder, dataset)
    pd.testing.assert_frame_equal(scores, again)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    return folder, scores, predictions


def test_every_method_is_scored_on_every_draw(curve, dataset):
    _, scores, predictions = curve
    frozen = {"pretrained", "random_weights", "band_power", "majority"}
    methods = scores.groupby(["fold", "n_subjects", "seed"])["method"].apply(set)
    assert (methods.xs(0, level="seed") == frozen).all()
    assert (methods.xs(1, level="seed") == frozen | {"fine_tuned", "scratch"}).all()
    assert set(scores["n_subjects"]) == {3}
    of_method = scores.groupby("method")["within_auroc"].mean()
    assert of_method["majority"] == 0.5
    assert of_method["band_power"] > 0.9  # what is planted
    tested = predictions.groupby(["method", "n_subjects", "seed"])
    assert (tested["subject"].nunique() == 12).all()  # everybody is tested, in one fold
    sizes = tested.size()
    assert sizes.nunique() == 1
    cell = predictions.query("method == 'band_power' and fold == 1 and seed == 0")
    logs = cell[["log_p_0", "log_p_1"]].to_numpy()
    columns = (cell[name].to_numpy() for name in ("subject", "stratum"))
    found = within_auroc(cell["value"].to_numpy(), logs, *columns)
    row = scores.query("method == 'band_power' and fold == 1 and seed == 0")
    assert row["within_auroc"].item() == pytest.approx(found)


def test_encoders_are_those_of_the_cross_validation(curve, dataset, tmp_path):
    folder, _, _ = curve
    before = encoders(folder / "folds")
    params = EvaluationParams(
        repeats=REPEATS, baselines=("majority",), stratify_scores_by="first", map_method="pca"
    )
    cross_validate(dataset, pretraining_in(folder), params, folder / "folds", experiments=INLINE)
    assert encoders(folder / "folds") == before


def fold_of(splits) -> Fold:
    return Fold("fold", {"repeat": 0, "fold": 0}, splits, None)


@pytest.fixture(scope="module")
def folds(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed")
    stores = stores_of(pretraining_in(folder), params_in(folder), INLINE)
    made = encoders_of_folds(
        dataset, label_recipe(evaluation=STRATIFIED), pretraining_in(folder), params_in(folder),
        stores, CPU,
    )  # fmt: skip
    return [Fold(run.name, run.place, run.splits, run.job.entry) for run in made], stores


@pytest.mark.parametrize("column", [None, "first"])
def test_draws_are_nested_and_of_all_strata(folds, dataset, tmp_path, column):
    recipe = label_recipe(evaluation=FineTuningEvaluationParams(stratify_scores_by=column))
    params = params_in(tmp_path, subjects=None, shares=(0.5, 0.75, 1.0), seeds=tuple(range(5)))
    level_of = dataset.participants.set_index("subject")["first"]
    for fold in folds[0]:
        training = set(fold.splits.loc[fold.splits["split"] == "train", "subject"])
        draws = list_draws(fold, dataset, recipe, params)
        for seed in range(5):
            sets = [set(draw.subjects) for draw in draws if draw.seed == seed]
            assert sets == sorted(sets, key=len)
            assert sets[0] < sets[1] < sets[2] == training
            if column:
                assert all(level_of[list(part)].nunique() == 2 for part in sets)
        assert len({draw.subjects for draw in draws}) > 2


def keys_of(folds, dataset, tmp_path, recipe=None, **changes):
    listed, stores = folds
    recipe = recipe or label_recipe(evaluation=STRATIFIED)
    runs = list_runs(listed, dataset, recipe, params_in(tmp_path, **changes), stores, CPU)
    return {
        kind: {run.job.key for run in runs if run.method == kind} for kind in ("frozen", "trained")
    }


def test_keys_follow_what_results_depend_on(folds, dataset, tmp_path):
    base = keys_of(folds, dataset, tmp_path)
    assert {kind: len(keys) for kind, keys in base.items()} == {"frozen": 2, "trained": 4}

    def same(**changes):
        found = keys_of(folds, dataset, tmp_path, **changes)
        return {kind for kind in base if found[kind] & base[kind]}

    assert same(n_jobs=3, work_dir="elsewhere") == {"frozen", "trained"}
    assert same(frozen=("majority",)) == {"trained"}
    assert same(trained=("scratch",)) == {"frozen"}
    assert same(subjects=(2, 3)) == {"trained"}  # that of two subjects
    assert same(seeds=(1, 2)) == {"trained"}
    plain = label_recipe(evaluation=STRATIFIED.model_copy(update={"stratify_scores_by": None}))
    assert same(recipe=plain) == set()
    around = label_recipe(evaluation=STRATIFIED, context=ContextParams(of="recording"))
    assert same(recipe=around) == set()
    more = STRATIFIED.model_copy(update={"bootstraps": 7})
    assert same(recipe=label_recipe(evaluation=more)) == {"frozen", "trained"}


def test_every_training_has_as_many_steps_and_validations(folds, dataset, tmp_path):
    listed, stores = folds
    recipe = label_recipe(evaluation=STRATIFIED)
    params = params_in(tmp_path, subjects=(2, 4))
    runs = list_runs(listed[:1], dataset, recipe, params, stores, CPU)
    few, most = (run.recipe.trainer for run in runs if run.method == "trained")
    assert (few.epochs, few.validate_every, few.checkpoint_every) == (4, 2, 2)
    assert most == recipe.trainer.model_copy(update={"seed": 1})
    assert few.early_stopping_patience == most.early_stopping_patience


def test_mistakes_are_found_before_any_training(dataset, tmp_path):
    def wrong(match, recipe=None, **changes):
        with pytest.raises(UserError, match=match):
            run_in(tmp_path, dataset, recipe, **changes)

    wrong(r"runs.subjects has 99: repeat 1 fold 1 has 4 training subjects", subjects=(2, 99))
    three = dataset.participants["subject"].str[-1].map(lambda name: "abc"[int(name) % 3])
    dataset = dataset.replace(participants=dataset.participants.assign(first=three))
    wrong("2 labelled subjects cannot be of all 3 strata of first; expected", subjects=(2,))
    dataset = dataset.replace(participants=dataset.participants.assign(first="a"))
    wrong("stratify_scores_by=first: expected two values or more, but all 12 subjects have a")
    age = label_recipe(label=LabelParams(kind="participant", column="age"))
    wrong(r"make the classes age ≤ .*; give label.threshold or more labelled subjects", age)
    assert results(tmp_path) == set()
    for changes, says in (
        ({"trained_seeds": (5,)}, "trained_seeds has 5; expected some of seeds"),
        ({"frozen": (), "trained": ()}, "frozen and trained are empty"),
        ({"subjects": (2, 2)}, "expected each one once"),
        ({"subjects": (1,)}, "greater than or equal to 2"),
    ):
        with pytest.raises(UserError, match=says):
            params_in(tmp_path, **changes)


def test_the_one_split_begins_at_the_foundation_checkpoint(curve, dataset, tmp_path):
    """Without repeats no encoder is pretrained; nobody is tested whom the checkpoint has seen."""
    from hbn_foundation.experiments.targets import CHECKPOINT
    from hbn_foundation.training.checkpoint import Checkpoint

    folder, _, _ = curve
    (first, *_) = make_folds(
        dataset, pretraining_in(folder), REPEATS,
        stores_of(pretraining_in(folder), params_in(folder), INLINE), device_plan=CPU,
        label=LabelParams(), stratify="first",
    )  # fmt: skip
    (path,) = (folder / "folds" / "encoders").glob(f"??/{first.job.key}")
    foundation = Checkpoint.load(path / CHECKPOINT)
    numbers = label_recipe(
        label=LabelParams(kind="participant", column="age", type="regression"),
        evaluation=STRATIFIED.model_copy(update={"stratify_scores_by": None}),
    )
    own = dataset.replace(splits=first.splits)
    params = params_in(tmp_path, repeats=None, trained=(), subjects=(4,), frozen=("band_power",))
    scores, predictions = label_curve(
        foundation, own, numbers, pretraining_in(tmp_path), params, CPU, INLINE
    )
    assert len(encoders(tmp_path / "folds")) == 1
    assert scores["nrmse"].notna().all()
    assert len(scores) == 2  # the same subset of both seeds
    assert scores["nrmse"].nunique() == 1
    assert "predicted" in predictions
    summary = curve_summary(predictions, 0)
    np.testing.assert_allclose(summary["score"], scores["nrmse"].iloc[0])
    named = numbers.model_copy(update={"checkpoint": "../elsewhere"})
    away = foundation.metadata | {"training_subjects": ["x"], "validation_subjects": ["y"]}
    other = Checkpoint(foundation.weights, away)
    in_folds = params.model_copy(update={"repeats": REPEATS, "subjects": (2,)})
    scores, _ = label_curve(other, own, named, pretraining_in(tmp_path), in_folds, CPU, INLINE)
    assert scores["fold"].tolist() == [0, 0, 1, 1]
    assert len(encoders(tmp_path / "folds")) == 1  # all folds begin at that checkpoint
    swapped = first.splits.replace({"split": {"train": "test", "test": "train"}})
    with pytest.raises(UserError, match="the model was trained on 4 of"):
        label_curve(
            foundation, own.replace(splits=swapped), numbers, pretraining_in(tmp_path), params,
            CPU, INLINE,
        )  # fmt: skip
