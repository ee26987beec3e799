"""Repeated subject splits: resumable, nothing pretrained twice, keys of what weights depend on."""

from __future__ import annotations

import pandas as pd
import pytest
from fold_data import (
    CPU,
    EVALUATION,
    INLINE,
    PRETRAINING,
    encoders,
    results,
    without_clock,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbn_foundation.evaluation.folds import FOLD_COLUMNS
from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.evaluation.provenance import Provenance
from hbn_foundation.experiments import folds as module
from hbn_foundation.experiments import running
from hbn_foundation.experiments.folds import cross_validate, make_folds, stores_in
from hbn_foundation.experiments.grid import with_values
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.training.recipes import PretrainingRecipe

pytestmark = pytest.mark.usefixtures("forked_trainings")

#: Parameters of a pretraining, another value of each, and whether the weights depend on it.
PARAMETERS = {
    "encoder.hidden_dim": (64, True),
    "encoder.n_layers": (2, True),
    "objective.gain": (0.3, True),
    "trainer.seed": (3, True),
    "trainer.epochs": (4, True),
    "trainer.learning_rate": (2e-3, True),
    "trainer.batch_size": (16, True),
    "trainer.work_dir": ("elsewhere", False),
    "trainer.resume": (False, False),
    "trainer.checkpoint_keep": (5, False),
    "trainer.keep_unfinished": (7, False),
    "trainer.max_training_time": (77.0, False),
    "supervision.max_restarts": (9, False),
    "hardware.device": ("cpu", False),
}
changes = st.sets(st.sampled_from(sorted(PARAMETERS)), max_size=4)
engines = st.sampled_from([INLINE, ExperimentParams(workers=3, retries=7, threads=2)])


@pytest.fixture
def run(dataset, tmp_path):
    def run(work_dir=tmp_path, experiments=INLINE, n_jobs=1, folds=3, **changes):
        repeats = RepeatParams(folds=folds, repeats=1, n_jobs=n_jobs)
        params = EVALUATION.model_copy(update={"repeats": repeats, **changes})
        return cross_validate(dataset, PRETRAINING, params, work_dir, experiments=experiments)

    return run


def test_no_repeats_no_folds(run):
    assert run(repeats=None).empty


def test_folds_are_kept_and_a_stopped_run_goes_on(run, tmp_path, monkeypatch):
    stopped = []

    def stop(text):
        if text.startswith("repeat"):
            stopped.append(text)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "say", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert stopped[0].startswith("repeat 1 fold 1: pretrained AUROC")
    first = results(tmp_path)
    assert len(first) == 1
    folds = run()
    assert first < results(tmp_path)
    assert len(folds) == 9
    assert tuple(folds.columns) == FOLD_COLUMNS
    assert folds.groupby("fold")["method"].apply(set).map(len).eq(3).all()
    ours = folds[folds["method"] == "pretrained"]
    assert ours["pretext_improvement"].notna().all()
    assert ours["windows_per_second"].gt(0).all()
    assert folds["n_test"].eq(4).all()
    kept = encoders(tmp_path)
    assert len(kept) == 3
    pd.testing.assert_frame_equal(run(), folds)  # to the second: nothing runs
    others = run(baselines=("majority",))  # takes the encoders that are kept
    assert set(others["method"]) == {"pretrained", "majority"}
    assert encoders(tmp_path) == kept
    assert len(results(tmp_path)) == 6
    assert not list((tmp_path / "work").glob("*-*/run.json"))


def test_results_of_other_code_or_arithmetic_are_not_taken_up(dataset, tmp_path, monkeypatch):
    stores = stores_in(tmp_path, INLINE)
    found = []
    for origin in (Provenance("a", "x"), Provenance("a", "y"), Provenance("b", "x")):
        monkeypatch.setattr(module, "provenance", lambda *_, o=origin: o)
        by = EVALUATION.label, None
        (fold, *_) = make_folds(dataset, PRETRAINING, RepeatParams(folds=3), stores, CPU, by)
        probe = module._probe(fold, EVALUATION, origin.evaluation)
        found.append((fold.job.key, probe.key))
    encoder_keys, probe_keys = zip(*found, strict=True)
    assert encoder_keys[0] == encoder_keys[1] != encoder_keys[2]
    assert len(set(probe_keys)) == 3


def keys_of(dataset, folder, recipe=PRETRAINING, engine=INLINE):
    stores, by = stores_in(folder, engine), (LabelParams(), None)
    folds = make_folds(dataset, recipe, RepeatParams(folds=3), stores, CPU, by)
    return {fold.job.key for fold in folds}


def changed(names):
    content = PRETRAINING.model_dump(mode="json")
    values = {name: PARAMETERS[name][0] for name in names}
    return PretrainingRecipe.model_validate(with_values(content, values, "test"))


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(names=changes, engine=engines, folder=st.sampled_from(["here", "there"]))
def test_the_key_of_an_encoder(dataset, tmp_path, names, engine, folder):
    base = keys_of(dataset, tmp_path)
    found = keys_of(dataset, tmp_path / folder, changed(names), engine)
    assert len(found) == len(base)  # each fold has its own
    counts = any(PARAMETERS[name][1] for name in names)
    assert (not found & base) if counts else (found == base)


def test_folds_of_a_label_of_subjects_test_both_classes(dataset, tmp_path):
    subjects = sorted(dataset.windows["subject"].unique())
    people = pd.DataFrame({"subject": subjects})
    people["group"] = ["ill"] * 4 + ["well"] * (len(subjects) - 4)
    dataset, stores = dataset.replace(participants=people), stores_in(tmp_path, INLINE)
    by = LabelParams(kind="participant", column="group"), None
    for seed in range(5):
        repeats = RepeatParams(folds=2, repeats=2, seed=seed)
        for fold in make_folds(dataset, PRETRAINING, repeats, stores, CPU, by):
            classes = fold.splits.merge(people).groupby("split")["group"].nunique()
            assert (classes == 2).all(), (seed, classes)


@pytest.mark.slow
def test_workers_give_what_one_process_gives(run, tmp_path):
    one = run(tmp_path / "one", folds=2)
    two = run(tmp_path / "two", ExperimentParams(), n_jobs=2, folds=2)
    pd.testing.assert_frame_equal(without_clock(one), without_clock(two), atol=5e-3)
