"""A training that ends at any moment and goes on has the weights of one that nothing disturbed.

In this process: what a killed one leaves on the disk is what is written until then.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import CPU, SHORT, SMALL

from hbn_foundation.errors import UserError
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.fitting import final_checkpoint
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.pretrain import PretrainingJob
from hbn_foundation.training.pretraining_module import PretrainingModule
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.link import STOPPED, Link, Orders
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    LAST,
    STATE,
    WEIGHTS,
    RunFolder,
    epochs_in,
)

TRAINER = {**SHORT, "epochs": 3, "keep_last": 2}


#: Never better than the first epoch: float32 weights do not change by so little.
STANDING_STILL = {**TRAINER, "epochs": 8, "early_stopping_patience": 1, "learning_rate": 1e-30}


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an exception comes before it but `finally`."""


class Counted(Link):
    """Ends the process, as it were, at a given beat."""

    def __init__(self, last: int | None, resume_from=None, seconds: float = 1000.0, **orders):
        deadline = time.monotonic() + seconds
        resume_from = None if resume_from is None else str(resume_from)
        super().__init__(None, Orders("cpu", deadline, resume_from=resume_from, **orders))
        self.last, self.sections = last, []

    def beat(self, section, **news):
        if len(self.sections) == self.last:
            raise Killed
        self.sections.append(section)


@pytest.fixture(scope="module")
def train(store, windows, splits):
    """Train in a folder, from its newest checkpoint; give checkpoint, history, sections."""

    def train(folder, last=None, trainer=TRAINER, **orders):
        run = RunFolder(folder, {})
        run.check_best()
        link = Counted(last, run.newest()[0], **orders)
        try:
            job = PretrainingJob(
                EEGDataset(store, windows, splits, pd.DataFrame()),
                PretrainingRecipe(
                    encoder=EncoderParams(**SMALL, tokens=("band",)),
                    objective=ObjectiveParams(name="recording_spectra"),
                    trainer=TrainerParams(**trainer),
                ),
                CPU,
            )
            stopped = job.run_in(run.path, run_id="run", link=link)["stopped"]
        finally:
            run.close()
        return *final_checkpoint(run.path, stopped), link.sections

    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return *train(folder), folder


def same(checkpoint, other) -> bool:
    """Whether all weights are the same bit by bit."""
    assert checkpoint.weights.keys() == other.weights.keys()
    return all(
        torch.equal(part.view(torch.uint8), other.weights[name].view(torch.uint8))
        for name, part in checkpoint.weights.items()
    )


def same_history(history, other) -> bool:
    """Whether the epochs are the same, but for how long they took."""
    clock = ["seconds", "windows_per_second"]
    return history.drop(columns=clock).equals(other.drop(columns=clock))


def newest_state(folder) -> bytes:
    return (RunFolder(folder, {}).newest()[0] / STATE).read_bytes()


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 0.999), st.floats(0, 0.999))
def test_killed_at_any_two_beats_it_ends_the_same(train, whole, tmp_path_factory, first, second):
    """In a step, an evaluation or a checkpoint, while it starts, twice."""
    checkpoint, history, sections, path = whole
    folder = tmp_path_factory.mktemp("killed")
    for share in (first, second):
        try:
            train(folder, last=int(share * len(sections)))
        except Killed:
            continue
    again, history_again, _ = train(folder)
    assert same(again, checkpoint)
    assert same_history(history_again, history)
    assert again.metadata["best_epoch"] == checkpoint.metadata["best_epoch"]
    mine, whole_epochs = RunFolder(folder, {}).newest()[0], RunFolder(path, {}).newest()[0]
    assert mine.name == whole_epochs.name
    assert (mine / WEIGHTS).read_bytes() == (whole_epochs / WEIGHTS).read_bytes()


def test_the_sections_are_told(whole):
    sections = whole[2]
    assert set(sections) == {"start", "first_step", "step", "evaluation", "checkpoint"}
    assert sections.index("first_step") > sections.index("start")
    assert sections.count("checkpoint") >= 3


def test_only_so_many_epochs_are_kept(whole):
    assert [path.name for path in epochs_in(whole[3])] == ["epoch-002", "epoch-003"]


def test_dead_after_the_last_checkpoint_it_only_reports(train, whole, tmp_path):
    """Between the last checkpoint and the result: no step is done again."""
    checkpoint, history, _, path = whole
    shutil.copytree(path, tmp_path / "run")
    again, history_again, sections = train(tmp_path / "run")
    assert same(again, checkpoint)
    assert same_history(history_again, history)
    assert "step" not in sections
    assert again.metadata["stopped"] == "all epochs"


def test_patience_at_its_end_is_remembered(train, tmp_path):
    """Stopped early and dead before it could say so: it does not train on."""
    trainer = STANDING_STILL
    checkpoint, history, _ = train(tmp_path / "run", trainer=trainer)
    assert len(history) == 2
    again, history_again, sections = train(tmp_path / "run", trainer=trainer)
    assert same(again, checkpoint)
    assert same_history(history_again, history)
    assert "step" not in sections
    assert again.metadata["stopped"] == checkpoint.metadata["stopped"]
    assert "no better validation" in again.metadata["stopped"]


def test_asked_to_stop_as_patience_ends_it_has_ended(train, tmp_path, monkeypatch):
    """The request comes after the last step of the epoch whose validation was one too many."""
    trainer = STANDING_STILL
    checkpoint, _, sections = train(tmp_path / "whole", trainer=trainer)
    count = sections.count("checkpoint")
    asked = property(
        lambda link: "stopped" if link.sections.count("evaluation") >= evaluations else None
    )
    evaluations = sections.count("evaluation") - 1
    monkeypatch.setattr(Counted, "asked_to_stop", asked)
    again, _, sections_again = train(tmp_path / "asked", trainer=trainer)
    assert sections_again.count("checkpoint") == count
    assert same(again, checkpoint)
    assert again.metadata["stopped"] == checkpoint.metadata["stopped"]


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_a_truncated_checkpoint_costs_one_epoch(train, whole, tmp_path, name):
    checkpoint, _, _, path = whole
    shutil.copytree(path, tmp_path / "run")
    damaged = tmp_path / "run" / "epoch-003" / name
    os.truncate(damaged, damaged.stat().st_size * 2 // 3)
    again, _, sections = train(tmp_path / "run")
    assert same(again, checkpoint)
    assert (tmp_path / "run" / "epoch-003.damaged").exists()
    assert [section for section, _ in itertools.groupby(sections)].count("first_step") == 1


def test_with_all_damaged_it_begins_anew(train, whole, tmp_path):
    checkpoint, history, _, path = whole
    shutil.copytree(path, tmp_path / "run")
    for folder in ("epoch-002", "epoch-003", BEST):
        os.truncate(tmp_path / "run" / folder / WEIGHTS, 100)
    again, history_again, _ = train(tmp_path / "run")
    assert same(again, checkpoint)
    assert same_history(history_again, history)
    assert len(list((tmp_path / "run").glob("*.damaged"))) == 3


def test_killed_between_an_epoch_and_its_best(train, whole, tmp_path):
    """Of the last epoch: nothing is left to train, and its weights are the best all the same."""
    checkpoint, history, sections, _ = whole
    assert checkpoint.metadata["best_epoch"] == 3
    last = max(n for n, section in enumerate(sections) if section == "checkpoint")
    with pytest.raises(Killed):
        train(tmp_path / "run", last=last)
    assert RunFolder(tmp_path / "run", {}).newest()[1] == 3
    assert Checkpoint.load(tmp_path / "run" / BEST).metadata["best_epoch"] == 2
    again, history_again, sections_again = train(tmp_path / "run")
    assert same(again, checkpoint)
    assert same_history(history_again, history)
    assert "step" not in sections_again


def test_the_best_of_an_epoch_that_is_trained_anew_is_not_kept(train, whole, tmp_path, monkeypatch):
    """As on another device, where the epoch does not come out as well."""
    folder = tmp_path / "run"
    shutil.copytree(whole[3], folder)
    shutil.rmtree(folder / "epoch-003")
    real = PretrainingModule.monitored
    monkeypatch.setattr(PretrainingModule, "monitored", lambda loop: real(loop) + 100)
    again, history, _ = train(folder)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert again.metadata["best_epoch"] == 2
    assert same(again, Checkpoint.load(folder / "epoch-002"))


def test_before_its_first_new_epoch_history_and_best_are_those_it_goes_on_from(
    train, whole, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(whole[3], folder)
    shutil.rmtree(folder / "epoch-003")
    first_step = 1 + whole[2].index("first_step")
    with pytest.raises(Killed):
        train(folder, last=first_step)
    checkpoint, history = final_checkpoint(folder, "time limit")
    assert history["epoch"].tolist() == [1, 2]
    assert same(checkpoint, Checkpoint.load(folder / "epoch-002"))


def test_a_lost_best_is_replaced_by_its_epoch(train, tmp_path):
    """Which is not the newest."""
    checkpoint, *_ = train(tmp_path / "run", trainer=STANDING_STILL)
    assert checkpoint.metadata["best_epoch"] == 1
    shutil.rmtree(tmp_path / "run" / BEST)
    again, *_ = train(tmp_path / "run", trainer=STANDING_STILL)
    assert same(again, checkpoint)
    assert {**again.metadata, **without_time(checkpoint)} == again.metadata


def without_time(checkpoint) -> dict:
    return {
        key: part for key, part in checkpoint.metadata.items() if key in ("monitored", "scores")
    }


def test_a_lost_best_is_replaced_by_the_best_that_is_left(train, tmp_path):
    """Its epoch is not kept either: the newest whole epoch takes its place until a better one."""
    trainer = {**STANDING_STILL, "early_stopping_patience": 3}
    train(tmp_path / "run", trainer=trainer)
    assert [path.name for path in epochs_in(tmp_path / "run")] == [
        "epoch-003", "epoch-004"
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "run" / BEST)
    shutil.rmtree(tmp_path / "run" / "epoch-004")
    again, history, _ = train(tmp_path / "run", trainer=trainer)
    assert again.metadata["best_epoch"] == 3
    assert again.metadata["monitored"] == history["validation_loss"][2]


def test_a_best_that_was_being_replaced_is_found(train, tmp_path):
    """Killed between two renames; the epoch of the best is no longer kept."""
    trainer = {**STANDING_STILL, "early_stopping_patience": 3}
    checkpoint, *_ = train(tmp_path / "run", trainer=trainer)
    (tmp_path / "run" / BEST).rename(tmp_path / "run" / ".best.0f0f0f0f.old")
    again, *_ = train(tmp_path / "run", trainer=trainer)
    assert again.metadata["best_epoch"] == checkpoint.metadata["best_epoch"] == 1
    assert same(again, checkpoint)


def test_what_a_killed_process_was_writing_is_removed(train, whole, tmp_path):
    shutil.copytree(whole[3], tmp_path / "run")
    for name in (".epoch-003.0f0f0f0f", ".best.0f0f0f0f", ".best.0f0f0f0f.old"):
        shutil.copytree(tmp_path / "run" / "epoch-002", tmp_path / "run" / name)
    train(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


def test_time_that_is_up_in_an_epoch_leaves_its_weights_as_last(train, whole, tmp_path):
    """The partial epoch is validated; the next run does not go on from it."""
    checkpoint, _, _, _ = whole
    cut, history, cut_sections = train(tmp_path / "run", seconds=0.0)
    assert cut.metadata["stopped"].startswith("time limit, max_training_time")
    assert (tmp_path / "run" / LAST).is_dir()
    assert cut_sections.count("step") == 1
    assert len(history) == 1
    assert history["validation_loss"].notna().all()
    assert RunFolder(tmp_path / "run", {}).newest() == (None, 0)
    again, _, _ = train(tmp_path / "run")
    assert same(again, checkpoint)
    assert not (tmp_path / "run" / LAST).exists()


def test_an_end_before_the_first_epoch_is_one_line(tmp_path):
    with pytest.raises(UserError, match="before the first epoch") as caught:
        final_checkpoint(tmp_path, "time limit")
    assert "\n" not in str(caught.value)


def test_without_a_validated_epoch_the_last_whole_one_is_left(train, tmp_path):
    """Ended by force, with a validation due later."""
    trainer = {**TRAINER, "validate_every": 3}
    with pytest.raises(Killed):
        train(tmp_path / "run", last=16, trainer=trainer)
    assert RunFolder(tmp_path / "run", {}).newest()[1] == 1
    checkpoint, history = final_checkpoint(tmp_path / "run", "time limit")
    assert checkpoint.metadata["best_epoch"] == 1
    assert len(history) == 1
    with pytest.raises(Killed):  # a second time, before another epoch is whole
        train(tmp_path / "run", last=3, trainer=trainer)
    assert same(final_checkpoint(tmp_path / "run", "time limit")[0], checkpoint)
    again, *_ = train(tmp_path / "run", trainer=trainer)
    assert again.metadata["best_epoch"] == 3
    assert not (tmp_path / "run" / LAST).exists()


@pytest.mark.parametrize("size", [16, 8])
def test_smaller_micro_batches_take_the_same_steps(train, whole, tmp_path, size):
    """Sums in another order and other draws of masks: close, and not the same."""
    _, history, _, _ = whole
    _, halved, _ = train(tmp_path / "run", micro_batch=size)
    assert len(halved) == len(history)
    assert halved["learning_rate"].tolist() == pytest.approx(history["learning_rate"].tolist())
    for column in ("train_loss", "validation_loss"):
        assert halved[column].to_numpy() == pytest.approx(history[column].to_numpy(), rel=0.15)


@pytest.mark.parametrize(("beats", "where"), [(6, "in epoch 4"), (5, "after epoch 3")])
def test_asked_to_stop_between_two_checkpoints_the_last_whole_epoch_is_kept(
    train, tmp_path, monkeypatch, caplog, beats, where
):
    caplog.set_level("INFO")
    trainer = {**TRAINER, "epochs": 6, "checkpoint_every": 5, "early_stopping_patience": 6}
    undisturbed, *_ = train(tmp_path / "undisturbed", trainer=trainer)
    asked = property(lambda link: STOPPED if link.sections.count("checkpoint") >= beats else None)
    monkeypatch.setattr(Counted, "asked_to_stop", asked)
    train(tmp_path / "run", trainer=trainer)
    assert f"training stopped {where} of 6: as asked" in caplog.text
    assert RunFolder(tmp_path / "run", {}).newest()[1] == 3
    monkeypatch.undo()
    again, history, _ = train(tmp_path / "run", trainer=trainer)
    assert same(again, undisturbed)
    assert history["epoch"].tolist() == list(range(1, 7))


def test_with_another_number_of_threads_it_goes_on_and_says_so(train, whole, tmp_path, caplog):
    """Sums are then in another order: the last bits differ, and nothing else."""
    caplog.set_level("INFO")
    _, history, _, path = whole
    shutil.copytree(path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "epoch-003")
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        _, again, _ = train(tmp_path / "run")
    finally:
        torch.set_num_threads(before)
    line = f"resuming with threads {before} before and {before + 1} now: weights may differ"
    assert [text for text in caplog.messages if text.startswith(line)]
    for column in ("train_loss", "validation_loss"):
        assert again[column].tolist() == pytest.approx(history[column].tolist(), rel=1e-3)
    caplog.clear()
    shutil.rmtree(tmp_path / "run" / "epoch-003")
    train(tmp_path / "run")
    assert "resuming with" not in caplog.text
