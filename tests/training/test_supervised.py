"""Real training in a real child: what strikes it, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil

import pytest
from supervised_run import supervised

from hbn_foundation.errors import UserError
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    DONE,
    HISTORY,
    METADATA,
    WEIGHTS,
    RunFolder,
)
from runs import same

pytestmark = pytest.mark.usefixtures("forked_trainings")

STEPS = 6  # of an epoch


@pytest.fixture(scope="module")
def data(store, windows, splits):
    return store, windows, splits


@pytest.fixture(scope="module")
def normal(data, tmp_path_factory):
    """A run that nothing disturbs: checkpoint, history, incidents, its folder."""
    work = tmp_path_factory.mktemp("normal")
    return *supervised(data, work, device="cpu"), work / "run"


@pytest.fixture(scope="module")
def failed(data, tmp_path_factory):
    """A run that an exception ended in its third epoch, and the message."""
    work = tmp_path_factory.mktemp("failed")
    with pytest.raises(UserError) as caught:
        supervised(data, work, fault=f"error@{2 * STEPS + 2}")
    return work, str(caught.value)


def test_an_undisturbed_run_has_no_incident(normal):
    checkpoint, history, incidents, folder = normal
    assert incidents == ""
    assert checkpoint.metadata["incidents"] == []
    assert checkpoint.metadata["epochs_by_device"] == {"cpu": [1, 2, 3]}
    assert checkpoint.metadata["stopped"] == "all epochs"
    assert history["epoch"].tolist() == [1, 2, 3]
    assert same(Checkpoint.load(folder / BEST).weights, checkpoint.weights)
    load_encoder(checkpoint)
    assert len(list(folder.glob("epoch-*"))) == 3  # until somebody has stored it for good
    checkpoint.when_stored()
    assert (folder / DONE).is_file()
    assert not list(folder.glob("epoch-*"))


def test_an_exception_surfaces_with_its_traceback_and_what_is_saved_is_usable(failed):
    work, message = failed
    assert f"failed at step {2 * STEPS + 1}: InjectedError" in message
    assert "in on_train_batch_start" in message
    assert str(work / "run") in message
    for name in (BEST, "epoch-001", "epoch-002"):
        load_encoder(Checkpoint.load(work / "run" / name))


def test_it_goes_on_after_an_exception_with_a_damaged_checkpoint(data, normal, failed, tmp_path):
    """The metadata of the newest are cut at a random byte, the best one's weights too."""
    shutil.copytree(failed[0], tmp_path / "work")
    run, byte = tmp_path / "work" / "run", random.Random(2)
    for path in (run / "epoch-002" / METADATA, run / BEST / WEIGHTS):
        os.truncate(path, byte.randrange(path.stat().st_size))
    checkpoint, history, incidents = supervised(data, tmp_path / "work", run_id="another")
    assert same(checkpoint.weights, normal[0].weights)
    assert len(history) == 3
    assert (run / "epoch-002.damaged").is_dir()
    assert (run / f"{BEST}.damaged").is_dir()
    assert not (tmp_path / "work" / "another").exists()
    kinds = [json.loads(line)["kind"] for line in incidents.splitlines()]
    assert kinds == ["error", "damaged", "damaged"]  # the record of the run is one


def test_a_loss_that_is_no_number_ends_it_with_one_line(data, tmp_path):
    with pytest.raises(UserError) as caught:
        supervised(data, tmp_path, fault=f"nan@{STEPS + 2}*1")
    message = str(caught.value)
    assert "\n" not in message
    assert "the loss is nan in 3 batches in a row" in message
    assert f"last at step {STEPS + 4} (epoch 2, batch 4, of sub-" in message
    folder = RunFolder(tmp_path / "run", {})
    newest, epochs = folder.newest()
    assert epochs == 1
    weights = Checkpoint.load(newest).weights
    assert all(part.isfinite().all() for part in weights.values() if part.is_floating_point())
    assert same(Checkpoint.load(folder.path / BEST).weights, Checkpoint.load(newest).weights)


def test_a_single_loss_that_is_no_number_is_passed_over(data, tmp_path):
    _, history, incidents = supervised(
        data, tmp_path, fault=f"nan@{STEPS + 2}", trainer={"epochs": 2}
    )
    assert incidents == ""
    assert history["train_loss"].notna().all()


def test_the_time_is_up_softly_then_by_force(data, tmp_path):
    """A machine that is busy needs more of it, until an epoch is over and the hang is reached."""

    def within(seconds, **options):
        trainer = {"epochs": 500, "max_training_time": seconds}
        checkpoint, history, incidents = supervised(data, tmp_path, trainer=trainer, **options)
        assert history["validation_loss"].notna().all()
        stopped, last = checkpoint.metadata["stopped"], json.loads(incidents.splitlines()[-1])
        assert (last["kind"], stopped[:12]) == ("time_limit", "time limit, ")
        with contextlib.closing(RunFolder(tmp_path / "run", {})) as run:
            return stopped, last, run.newest()[1], len(history)

    seconds, done, forced = 1.5, 0, False
    while done == 0:
        seconds *= 2
        stopped, last, done, _ = within(seconds)
        assert stopped == last["what"] == f"time limit, max_training_time {seconds:g} s"
    limits = {"step_least": 600.0, "first_step": 600.0, "grace": 0.5}
    while not forced:
        before = done
        stopped, last, done, epochs = within(
            seconds, limits=limits, fault=f"hang@{done * STEPS + 8}"
        )
        forced, seconds = "the supervisor ended it" in stopped, 2 * seconds
    assert "in inject" in last["stack"]
    assert len(json.loads((tmp_path / "run" / HISTORY).read_text())) == epochs == before + 1
