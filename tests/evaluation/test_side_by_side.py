"""Work in other processes: stopped by a signal in one line, and no scratch without bound."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from hbn_foundation.evaluation.side_by_side import TRAINING, going_on, prune_scratch, side_by_side
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.supervision.run_folder import BEST, RunFolder
from hbn_foundation.training.supervision.supervisor import TrainingStopped, stopped_at_once
from processes import alive, wait_for


def sleep_named(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_says_how_to_go_on(tmp_path, number):
    before = signal.getsignal(number)

    def send():
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    with (
        pytest.raises(TrainingStopped, match=f"Stopped by {number.name}.*goes on") as caught,
        stopped_at_once(),
    ):
        list(side_by_side(sleep_named, [str(tmp_path)] * 2, 2, "n_jobs"))
    thread.join()
    assert caught.value.signal_number == number
    assert signal.getsignal(number) is before
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_for(lambda: not any(map(alive, workers)))


def terminate_and_catch() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    except Exception:
        pytest.fail("caught")


def test_who_catches_every_exception_does_not_catch_a_signal():
    """A handler of the log would, in the midst of a line."""
    with pytest.raises(TrainingStopped), stopped_at_once():
        terminate_and_catch()


def test_a_stop_comes_whole_from_a_worker():
    again = pickle.loads(pickle.dumps(TrainingStopped("stopped here", signal.SIGTERM)))
    assert (str(again), again.signal_number) == ("stopped here", signal.SIGTERM)


def test_a_training_with_a_folder_to_itself_goes_on_there():
    for resume in ("auto", False, "2026-01-01T00.00.00.000Z"):
        assert going_on(TrainerParams(resume=resume, epochs=3)) == TrainerParams(epochs=3)


def test_of_scratch_the_last_ones_stay(tmp_path):
    for age in range(4):
        run = RunFolder(tmp_path / f"training-run-{age}" / TRAINING, {})
        (run.path / BEST).mkdir()
        run.close()
        os.utime(run.path / "run.json", (time.time() - age,) * 2)
    (tmp_path / "training-run-x.json").touch()
    (tmp_path / "training-unsupervised").mkdir()
    trainer = TrainerParams(keep_unfinished=1)
    prune_scratch(tmp_path, "training-*", trainer, n_jobs=3)
    assert [(tmp_path / f"training-run-{age}" / TRAINING / BEST).exists() for age in range(4)] == [
        True, True, True, False
    ]  # fmt: skip
    prune_scratch(tmp_path, "training-*", trainer, n_jobs=1)
    assert not (tmp_path / "training-run-1" / TRAINING / BEST).exists()
    assert (tmp_path / "training-run-0" / TRAINING / BEST).exists()
