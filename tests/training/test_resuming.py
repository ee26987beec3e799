"""A training that ends at any moment and is resumed has the weights of one that nothing disturbed.

In this process: what a killed one leaves on the disk is what is written until then.
"""

from __future__ import annotations

import itertools
import os
import shutil

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.fitting import final_checkpoint
from hbn_foundation.training.pretrain import PretrainingJob
from hbn_foundation.training.pretraining_module import PretrainingModule
from hbn_foundation.training.supervision.link import STOPPED
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    LAST,
    STATE,
    WEIGHTS,
    RunFolder,
    epochs_in,
)
from runs import (
    CPU,
    SHORT,
    Counted,
    Killed,
    check_the_same,
    pretraining_recipe,
    run_until,
    same,
)

TRAINER = {**SHORT, "epochs": 3, "checkpoint_keep": 2}
#: Never better than the first epoch: float32 weights do not change by so little.
STANDING_STILL = {**TRAINER, "epochs": 8, "early_stopping_patience": 1, "learning_rate": 1e-30}


@pytest.fixture(scope="module")
def train(store, windows, splits):
    """Train in a folder, from its newest checkpoint; return checkpoint, history, sections."""

    def train(folder, last=None, trainer=TRAINER, **orders):
        dataset = EEGDataset(store, windows, splits, pd.DataFrame())
        recipe = pretraining_recipe(
            encoder={"tokens": ("band",)},
            objective={"name": "recording_spectra"},
            trainer=trainer,
        )
        return run_until(PretrainingJob(dataset, recipe, CPU), folder, last, **orders)

    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return *train(folder), folder


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the folder of the run that nothing disturbs."""
    return shutil.copytree(whole[3], tmp_path / "run")


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 0.999), st.floats(0, 0.999))
def test_killed_at_any_two_beats_it_ends_the_same(train, whole, tmp_path_factory, first, second):
    """In a step, an evaluation or a checkpoint, while it starts, twice."""
    folder = tmp_path_factory.mktemp("killed")
    for share in (first, second):
        try:
            train(folder, last=int(share * len(whole[2])))
        except Killed:
            continue
    check_the_same(train(folder), whole)
    mine, epochs = RunFolder(folder, {}).newest()[0], RunFolder(whole[3], {}).newest()[0]
    assert mine.name == epochs.name
    assert (mine / WEIGHTS).read_bytes() == (epochs / WEIGHTS).read_bytes()


def test_the_sections_are_told_and_only_so_many_epochs_kept(whole):
    sections = whole[2]
    assert set(sections) == {"start", "first_step", "step", "evaluation", "checkpoint"}
    assert sections.index("first_step") > sections.index("start")
    assert sections.count("checkpoint") >= 3
    assert [path.name for path in epochs_in(whole[3])] == ["epoch-002", "epoch-003"]


def test_dead_after_the_last_checkpoint_it_only_reports(train, whole, copied):
    """Between the last checkpoint and the result: no step is done again."""
    again = train(copied)
    check_the_same(again, whole)
    assert "step" not in again[2]
    assert again[0].metadata["stopped"] == "all epochs"


def test_patience_at_its_end_is_remembered(train, tmp_path):
    """Stopped early and dead before it could say so: it does not train on."""
    stopped = train(tmp_path, trainer=STANDING_STILL)
    assert len(stopped[1]) == 2
    again = train(tmp_path, trainer=STANDING_STILL)
    check_the_same(again, stopped)
    assert "step" not in again[2]
    assert "no better validation" in again[0].metadata["stopped"]


def test_asked_to_stop_as_patience_ends_it_has_ended(train, tmp_path, monkeypatch):
    """The request comes after the last step of the epoch whose validation was one too many."""
    checkpoint, _, sections = train(tmp_path / "whole", trainer=STANDING_STILL)
    evaluations = sections.count("evaluation") - 1
    asked = property(
        lambda link: "stopped" if link.sections.count("evaluation") >= evaluations else None
    )
    monkeypatch.setattr(Counted, "asked_to_stop", asked)
    again, _, sections_again = train(tmp_path / "asked", trainer=STANDING_STILL)
    assert sections_again.count("checkpoint") == sections.count("checkpoint")
    assert same(again.weights, checkpoint.weights)
    assert again.metadata["stopped"] == checkpoint.metadata["stopped"]


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_a_truncated_checkpoint_costs_one_epoch(train, whole, copied, name):
    damaged = copied / "epoch-003" / name
    os.truncate(damaged, damaged.stat().st_size * 2 // 3)
    again = train(copied)
    check_the_same(again, whole)
    assert (copied / "epoch-003.damaged").exists()
    assert [section for section, _ in itertools.groupby(again[2])].count("first_step") == 1


def test_with_all_damaged_it_begins_anew(train, whole, copied):
    for folder in ("epoch-002", "epoch-003", BEST):
        os.truncate(copied / folder / WEIGHTS, 100)
    check_the_same(train(copied), whole)
    assert len(list(copied.glob("*.damaged"))) == 3


def test_killed_between_an_epoch_and_its_best(train, whole, tmp_path):
    """Of the last epoch: nothing is left to train, and its weights are the best all the same."""
    assert whole[0].metadata["best_epoch"] == 3
    last = max(n for n, section in enumerate(whole[2]) if section == "checkpoint")
    with pytest.raises(Killed):
        train(tmp_path, last=last)
    assert RunFolder(tmp_path, {}).newest()[1] == 3
    assert Checkpoint.load(tmp_path / BEST).metadata["best_epoch"] == 2
    again = train(tmp_path)
    check_the_same(again, whole)
    assert "step" not in again[2]


def test_the_best_of_an_epoch_that_is_trained_anew_is_not_kept(train, copied, monkeypatch):
    """As on another device, where the epoch does not come out as well."""
    shutil.rmtree(copied / "epoch-003")
    real = PretrainingModule.monitored
    monkeypatch.setattr(PretrainingModule, "monitored", lambda module: real(module) + 100)
    again, history, _ = train(copied)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert again.metadata["best_epoch"] == 2
    assert same(again.weights, Checkpoint.load(copied / "epoch-002").weights)


def test_before_its_first_new_epoch_history_and_best_are_those_it_resumes_from(
    train, whole, copied
):
    shutil.rmtree(copied / "epoch-003")
    with pytest.raises(Killed):
        train(copied, last=1 + whole[2].index("first_step"))
    checkpoint, history = final_checkpoint(copied, "time limit")
    assert history["epoch"].tolist() == [1, 2]
    assert same(checkpoint.weights, Checkpoint.load(copied / "epoch-002").weights)


def test_a_lost_best_is_replaced_by_its_epoch(train, tmp_path):
    """Which is not the newest."""
    checkpoint, *_ = train(tmp_path, trainer=STANDING_STILL)
    assert checkpoint.metadata["best_epoch"] == 1
    shutil.rmtree(tmp_path / BEST)
    again, *_ = train(tmp_path, trainer=STANDING_STILL)
    assert same(again.weights, checkpoint.weights)
    for name in ("monitored", "scores", "best_epoch"):
        assert again.metadata[name] == checkpoint.metadata[name]


def test_a_best_whose_epoch_is_not_kept(train, tmp_path):
    """Lost, the newest whole epoch takes its place; being replaced as the run died, it is found."""
    trainer = {**STANDING_STILL, "early_stopping_patience": 3}
    checkpoint, *_ = train(tmp_path, trainer=trainer)
    epochs = [path.name for path in epochs_in(tmp_path)]
    assert epochs == ["epoch-003", "epoch-004"]
    (tmp_path / BEST).rename(tmp_path / ".best.0f0f0f0f.old")
    again, *_ = train(tmp_path, trainer=trainer)
    assert again.metadata["best_epoch"] == checkpoint.metadata["best_epoch"] == 1
    assert same(again.weights, checkpoint.weights)
    shutil.rmtree(tmp_path / BEST)
    shutil.rmtree(tmp_path / "epoch-004")
    again, history, _ = train(tmp_path, trainer=trainer)
    assert again.metadata["best_epoch"] == 3
    assert again.metadata["monitored"] == history["validation_loss"][2]


def test_what_a_killed_process_was_writing_is_removed(train, copied):
    for name in (".epoch-003.0f0f0f0f", ".best.0f0f0f0f", ".best.0f0f0f0f.old"):
        shutil.copytree(copied / "epoch-002", copied / name)
    train(copied)
    assert not list(copied.glob(".*"))


def test_time_that_is_up_in_an_epoch_leaves_its_weights_as_last(train, whole, tmp_path):
    """The partial epoch is validated; the next run does not resume from it."""
    cut, history, sections = train(tmp_path, seconds=0.0)
    assert cut.metadata["stopped"].startswith("time limit, max_training_time")
    assert (tmp_path / LAST).is_dir()
    assert sections.count("step") == 1
    assert len(history) == 1
    assert history["validation_loss"].notna().all()
    assert RunFolder(tmp_path, {}).newest() == (None, 0)
    check_the_same(train(tmp_path), whole)
    assert not (tmp_path / LAST).exists()


def test_an_end_before_the_first_epoch_is_one_line(tmp_path):
    with pytest.raises(UserError, match="before the first epoch") as caught:
        final_checkpoint(tmp_path, "time limit")
    assert "\n" not in str(caught.value)


def test_without_a_validated_epoch_the_last_whole_one_is_left(train, tmp_path):
    """Ended by force, with a validation due later."""
    trainer = {**TRAINER, "validate_every": 3}
    with pytest.raises(Killed):
        train(tmp_path, last=16, trainer=trainer)
    assert RunFolder(tmp_path, {}).newest()[1] == 1
    checkpoint, history = final_checkpoint(tmp_path, "time limit")
    assert checkpoint.metadata["best_epoch"] == 1
    assert len(history) == 1
    with pytest.raises(Killed):  # a second time, before another epoch is whole
        train(tmp_path, last=3, trainer=trainer)
    assert same(final_checkpoint(tmp_path, "time limit")[0].weights, checkpoint.weights)
    again, *_ = train(tmp_path, trainer=trainer)
    assert again.metadata["best_epoch"] == 3
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize("size", [16, 8])
def test_smaller_micro_batches_take_the_same_steps(train, whole, tmp_path, size):
    """Sums in another order and other draws of masks: close, and not the same."""
    _, history, *_ = whole
    _, halved, _ = train(tmp_path, micro_batch=size)
    assert halved["learning_rate"].tolist() == pytest.approx(history["learning_rate"].tolist())
    for column in ("train_loss", "validation_loss"):
        assert halved[column].to_numpy() == pytest.approx(history[column].to_numpy(), rel=0.15)


@pytest.mark.parametrize(("beats", "where"), [(6, "in epoch 4"), (5, "after epoch 3")])
def test_asked_to_stop_between_two_checkpoints_the_last_whole_epoch_is_kept(
    train, tmp_path, monkeypatch, caplog, beats, where
):
    caplog.set_level("INFO")
    trainer = {**TRAINER, "epochs": 6, "checkpoint_every": 5, "early_stopping_patience": 6}
    undisturbed = train(tmp_path / "undisturbed", trainer=trainer)
    asked = property(lambda link: STOPPED if link.sections.count("checkpoint") >= beats else None)
    monkeypatch.setattr(Counted, "asked_to_stop", asked)
    train(tmp_path / "run", trainer=trainer)
    assert f"training stopped {where} of 6: as asked" in caplog.text
    assert RunFolder(tmp_path / "run", {}).newest()[1] == 3
    monkeypatch.undo()
    check_the_same(train(tmp_path / "run", trainer=trainer), undisturbed)


def test_with_another_number_of_threads_it_resumes(train, whole, copied):
    """Sums are then in another order: the last bits differ, and nothing else."""
    history, before = whole[1], torch.get_num_threads()
    shutil.rmtree(copied / "epoch-003")
    torch.set_num_threads(before + 1)
    try:
        _, again, _ = train(copied)
    finally:
        torch.set_num_threads(before)
    for column in ("train_loss", "validation_loss"):
        assert again[column].tolist() == pytest.approx(history[column].tolist(), rel=1e-3)
