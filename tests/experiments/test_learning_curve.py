"""The curve over labelled subjects: nested, balanced, the same test, nothing done twice."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fold_data import (
    CPU,
    INLINE,
    curve_results,
    curve_stores,
    encoders,
    label_recipe,
    pretraining_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.curve_summary import curve_summary
from hbn_foundation.evaluation.params import (
    EvaluationParams,
    FineTuningEvaluationParams,
    RepeatParams,
)
from hbn_foundation.experiments.folds import cross_validate, make_folds
from hbn_foundation.experiments.learning_curve import learning_curve, list_draws, list_runs
from hbn_foundation.experiments.listing import Fold
from hbn_foundation.experiments.params import LabelCurveParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.scores import within_auroc
from hbn_foundation.signals.params import ContextParams

pytestmark = pytest.mark.usefixtures("forked_trainings")

REPEATS = RepeatParams(folds=2, repeats=1, n_jobs=1)
STRATIFIED = FineTuningEvaluationParams(
    strengths=(1e-3, 1e-1), max_windows=40, bootstraps=50, stratify_scores_by="first"
)


@pytest.fixture(scope="module")
def dataset(dataset):
    """Twelve subjects, of whom four began with the rare state."""
    first = ["open" if n % 3 == 0 else "closed" for n in range(12)]
    return dataset.replace(participants=dataset.participants.assign(first=first))


def params_in(folder, **changes) -> LabelCurveParams:
    small = {
        "subjects": (2, 4), "seeds": (0, 1), "trained_seeds": (1,), "repeats": REPEATS,
        "frozen": ("pretrained", "random_weights", "band_power", "majority"),
        "work_dir": str(folder / "curve"),
    }  # fmt: skip
    return LabelCurveParams.model_validate(small | changes)


def run_in(folder, dataset, recipe=None, **changes):
    changes = {"subjects": (3,)} | changes
    return learning_curve(
        None, dataset, recipe or label_recipe(evaluation=STRATIFIED), pretraining_in(folder),
        params_in(folder, **changes), CPU, INLINE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def curve(dataset, tmp_path_factory):
    """Folder, scores and predictions."""
    folder = tmp_path_factory.mktemp("curve")
    scores, predictions = run_in(folder, dataset)
    assert len(curve_results(folder)) == 2 + 2  # fitted and trained in each fold
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
    stores = curve_stores(folder)
    by = LabelParams(), "first"
    made = make_folds(dataset, pretraining_in(folder), REPEATS, stores, CPU, by)
    return list(map(Fold.of, made)), stores


subjects_of = st.lists(st.sampled_from([f"s{n:02}" for n in range(40)]), min_size=4, unique=True)
shares_of = st.lists(st.floats(0.01, 1), min_size=1, max_size=5, unique=True)


@settings(deadline=None)  # a busy machine is no failure
@given(subjects_of, shares_of, st.integers(0, 5), st.sampled_from(["none", "strata", "classes"]))
def test_draws_are_nested_and_of_all_strata_and_classes(training, shares, seed, kind):
    levels = pd.Series(["rare", *["usual"] * (len(training) - 1)], index=training)
    people = pd.DataFrame({"subject": training, "first": levels.to_numpy()})
    splits = pd.DataFrame(
        {
            "subject": [*training, "v", "t", "none"],
            "split": [*["train"] * len(training), "validation", "test", "train"],
        }
    )
    windows = splits[["subject"]].iloc[-2::-1]  # the last subject has none, and counts for nothing
    recipe = label_recipe(
        label=LabelParams(kind="participant", column="first")
        if kind == "classes"
        else LabelParams(),
        evaluation=FineTuningEvaluationParams(
            stratify_scores_by="first" if kind == "strata" else None
        ),
    )
    params = LabelCurveParams(shares=tuple(shares), seeds=(seed,), trained_seeds=(seed,))

    def draw(splits, people):
        data = SimpleNamespace(windows=windows, participants=people)
        found = list_draws(fold_of(splits), data, recipe, params)
        return [set(one.subjects) for one in found]

    people = pd.concat([people, pd.DataFrame({"subject": ["v", "t"], "first": "usual"})])
    draws = draw(splits, people)
    sizes = {max(2, round(share * len(training))) for share in shares}
    assert [len(part) for part in draws] == sorted(sizes)
    for smaller, larger in itertools.pairwise(draws):
        assert smaller < larger
    assert draws[-1] <= set(training)
    if kind != "none":
        assert all(levels[list(part)].nunique() == 2 for part in draws)
    mixed = splits.sample(frac=1, random_state=seed), people.sample(frac=1, random_state=seed)
    assert draw(*mixed) == draws  # whatever the order of the rows


def test_shares_are_as_many_subjects_in_all_folds(dataset, folds, tmp_path):
    (fold, other), stores = folds
    training = fold.splits["split"] == "train"
    fewer = fold._replace(splits=fold.splits.drop(fold.splits[training].index[0]))
    changes = {"subjects": None, "shares": (0.5, 1.0), "frozen": ("majority",)}
    runs = list_runs(
        [fewer, other], dataset, label_recipe(), params_in(tmp_path, **changes), stores, CPU
    )
    counts = [[len(draw.subjects) for draw in run.job.arguments["draws"]] for run in runs[:2]]
    assert counts[0] == counts[1]
    assert max(counts[0]) == training.sum() - 1


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

    wrong(
        r"^finetuning_learning_curve.runs.subjects has 99: repeat 1 fold 1 has 4 training subjects",
        subjects=(2, 99),
    )
    three = dataset.participants["subject"].str[-1].map(lambda name: "abc"[int(name) % 3])
    dataset = dataset.replace(participants=dataset.participants.assign(first=three))
    wrong("2 labelled subjects cannot be of all 3 strata of first; expected", subjects=(2,))
    dataset = dataset.replace(participants=dataset.participants.assign(first="a"))
    wrong("stratify_scores_by=first: expected two values or more, but all 12 subjects have a")
    age = label_recipe(label=LabelParams(kind="participant", column="age"))
    wrong(r"make the classes age ≤ .*; give label.threshold or more labelled subjects", age)
    assert curve_results(tmp_path) == set()
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
    by = LabelParams(), "first"
    (first, *_) = make_folds(
        dataset, pretraining_in(folder), REPEATS, curve_stores(folder), CPU, by
    )
    (path,) = (folder / "folds" / "encoders").glob(f"??/{first.job.key}")
    foundation = Checkpoint.load(path / CHECKPOINT)
    numbers = label_recipe(
        label=LabelParams(kind="participant", column="age", type="regression"),
        evaluation=STRATIFIED.model_copy(update={"stratify_scores_by": None}),
    )
    own = dataset.replace(splits=first.splits)
    params = params_in(tmp_path, repeats=None, trained=(), subjects=(4,), frozen=("band_power",))
    scores, predictions = learning_curve(
        foundation, own, numbers, pretraining_in(tmp_path), params, CPU, INLINE
    )
    assert len(encoders(tmp_path / "folds")) == 1
    assert scores["nrmse"].notna().all()
    assert len(scores) == 2  # the same subset of both seeds
    assert scores["nrmse"].nunique() == 1
    assert "predicted" in predictions
    summary = curve_summary(predictions, FineTuningEvaluationParams(bootstraps=0))
    np.testing.assert_allclose(summary["score"], scores["nrmse"].iloc[0])
    named = numbers.model_copy(update={"checkpoint": "../elsewhere"})
    away = foundation.metadata | {"training_subjects": ["x"], "validation_subjects": ["y"]}
    other = Checkpoint(foundation.weights, away)
    in_folds = params.model_copy(update={"repeats": REPEATS, "subjects": (2,)})
    scores, _ = learning_curve(other, own, named, pretraining_in(tmp_path), in_folds, CPU, INLINE)
    assert scores["fold"].tolist() == [0, 0, 1, 1]
    assert len(encoders(tmp_path / "folds")) == 1  # all folds begin at that checkpoint
    swapped = first.splits.replace({"split": {"train": "test", "test": "train"}})
    with pytest.raises(UserError, match="the model was trained on 4 of"):
        learning_curve(
            foundation, own.replace(splits=swapped), numbers, pretraining_in(tmp_path), params,
            CPU, INLINE,
        )  # fmt: skip
