"""Submissions are run by a clean process, and what would fail where they are scored is told."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toys import saved, toy_submission, written

from hbn_foundation.submission import process
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import LimitParams, ValidationParams
from hbn_foundation.submission.validation import (
    Report,
    difference,
    example_windows,
    predictor,
    validate_submission,
)

FAST = ValidationParams(n_windows=5, batch_size=3, limits=LimitParams(threads=1))


def failures(submission: Submission, **changes: object) -> list[str]:
    report = validate_submission(submission, params=FAST.model_copy(update=changes))
    lines = report.failures()
    assert lines
    assert not report.passed
    assert not any("\n" in line for line in lines)
    return lines


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> Report:
    """Check an exported submission from its file, against the models it was made of."""
    submission, models = toy_submission()
    path = submission.save(tmp_path_factory.mktemp("zip") / "submission.zip")
    expected = {number: predictor(model) for number, model in models.items()}
    return validate_submission(path, expected, FAST)


def test_an_exported_submission_passes(checked):
    assert checked.failures() == []
    assert checked.passed
    names = [check["check"] for check in checked.checks]
    for challenge in (1, 2):
        assert f"challenge {challenge}: as the project predicts" in names
        assert f"challenge {challenge}: the same in batches of 1 and 3" in names
        assert f"challenge {challenge}: the same in another order" in names
    assert "reads no file outside its folder" in names


def test_the_report_says_what_was_run(checked):
    content = checked.as_dict()
    assert content["passed"] is True
    assert len(content["sha256"]) == 64
    assert 50 < content["peak_megabytes"] < 4096
    assert len(checked.text().splitlines()) == len(checked.checks)
    assert all(line.startswith("ok ") for line in checked.text().splitlines())


def test_reading_elsewhere_and_keeping_quiet_about_it(monkeypatch):
    """What is tried is told even when its failure is swallowed; the project is not there."""
    # a package that is installed here stands in for the project where it is installed
    monkeypatch.setattr(process, "BLOCKED", (*process.BLOCKED, "safetensors"))
    quiet = (
        "try: open('/etc/passwd')\n        except OSError: pass\n"
        "        for name in ('hbn_' + 'foundation', 'safetensors'):\n"
        "            try: import_module(name)\n"
        "            except ModuleNotFoundError: continue\n"
        "            raise RuntimeError(name + ' can be imported')\n"
        "        return volts[:, :1, 0]"
    )
    lines = failures(written(top="from importlib import import_module", forward=quiet))
    assert lines == ["reads no file outside its folder: reads /etc/passwd"]


def test_states_neighbours_and_other_predictions():
    submission = written(
        init="self.seen = 0",
        forward="self.seen += len(volts); return torch.full((len(volts), 1), float(self.seen))",
        second="return 1e6 * volts[:, :1, 0] + volts.abs().sum()",
    )
    report = validate_submission(submission, {1: lambda windows: np.zeros(len(windows))}, FAST)
    failed = {line.split(": window")[0] for line in report.failures()}
    assert failed == {
        "challenge 1: the same in batches of 1 and 3",
        "challenge 1: the same in another order",
        "challenge 1: the same a second time",
        "challenge 1: as the project predicts",
        "challenge 2: the same in batches of 1 and 3",
        "challenge 2: the same a second time",
    }


def test_wrong_outputs():
    nan = "return volts[:, :1, 0] * float('nan')"
    lines = failures(written(forward="return volts[:, 0, 0]", second=nan))
    assert lines == [
        "challenge 1: gives (B, 1): [1] instead of [1, 1]",
        "challenge 2: every value is finite: window 0 gives nan",
    ]


def test_sleeping():
    limits = LimitParams(threads=1, request_seconds=0.5, window_seconds=0.1)
    lines = failures(written(top="import time", forward="time.sleep(1000)"), limits=limits)
    assert lines == ["stays within the time allowed: challenge 1: no answer to 5 windows after 1 s"]


def test_taking_too_much_memory():
    hog = "[torch.ones(10_000_000) for _ in range(200)]; return volts[:, :1, 0]"
    lines = failures(written(forward=hog), limits=LimitParams(memory_megabytes=700.0, threads=1))
    assert len(lines) == 1
    assert lines[0].startswith("stays within the memory allowed: ")
    assert lines[0].endswith(" MB in use; at most 700 MB are allowed")


@pytest.mark.slow
def test_ending_by_itself():
    (line,) = failures(written(top="import os", forward="print('well', flush=True); os._exit(7)"))
    assert line == "runs without an error: its process ended by itself with status 7: well"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("os.system('true')", "starts no process: starts a process (os.system true)"),
        ("subprocess.run(['true'])", "starts no process: starts a process (subprocess.Popen"),
        ("open('/tmp/left_behind', 'w')", "changes no file: writes /tmp/left_behind"),
        ("open('notes.txt', 'w')", "changes no file: writes notes.txt"),
        ("os.remove('submission.py')", "changes no file: changes files (os.remove"),
        ("os.listdir('/home')", "reads no file outside its folder: lists /home"),
        ("socket.create_connection(('127.0.0.1', 9))", "opens no connection: opens a connection"),
        ("time.sleep(1000)", "stays within the time allowed: not ready after 20 s"),
        ("os.environ['SECRET']", "runs without an error: KeyError: 'SECRET'"),
    ],
)
def test_other_conduct(what, expected, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    limits = LimitParams(threads=1, start_seconds=20.0)
    lines = failures(written(top="import os, socket, subprocess, time", made=what), limits=limits)
    assert len(lines) == 1
    assert lines[0].startswith(expected)
    assert not Path("/tmp/left_behind").exists()


@pytest.mark.slow
def test_what_it_started_ends_with_it(tmp_path):
    """Nothing is left when a submission is stopped, also not what no audit event tells of."""
    alive = tmp_path / "alive"
    loop = f"while true; do echo > {alive}; sleep 0.05; done"
    spawn = f"libc.execl(b'/bin/sh', b'sh', b'-c', {loop.encode()!r}, None)"
    top = f"import ctypes, time\nlibc = ctypes.CDLL(None)\nif libc.fork() == 0: {spawn}"
    limits = LimitParams(threads=1, start_seconds=20.0)
    failures(written(top=top, made="time.sleep(1000)"), limits=limits)
    assert alive.exists()
    alive.unlink()
    time.sleep(0.5)
    assert not alive.exists()


def test_weights_that_run_code_are_refused_before_anything_runs():
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    lines = failures(written(**{"weights.pt": saved(Evil())}))
    assert lines[0].startswith("weights are plain state dicts: weights.pt: its pickle takes posix.")


def test_a_zip_that_is_none(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    (line,) = validate_submission(tmp_path / "a.zip").failures()
    assert "cannot be read as a zip" in line


def test_an_interpreter_that_is_not_there():
    limits = LimitParams(python="/no/such/python")
    with pytest.raises(Exception, match=r"limits\.python='/no/such/python': cannot be run"):
        validate_submission(written(), params=ValidationParams(limits=limits))


@pytest.mark.parametrize("variable", [None, "TORCH_2_2_PYTHON"])
def test_another_interpreter_runs_it(variable):
    """The challenge's torch is 2.2: name an interpreter that has it."""
    python = sys.executable if variable is None else os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no Python with torch 2.2")
    submission, models = toy_submission()
    expected = {number: predictor(model) for number, model in models.items()}
    limits = FAST.limits.model_copy(update={"python": python})
    report = validate_submission(submission, expected, FAST.model_copy(update={"limits": limits}))
    assert report.failures() == []


def test_example_windows():
    windows = example_windows(4, seed=1)
    assert windows.shape == (4, 129, 200)
    assert windows.dtype == np.float32
    assert 1e-6 < np.median(windows[2:, :-1].std(-1)) < 1e-4
    assert (windows[:, -1] == 0).all()
    assert np.array_equal(windows, example_windows(4, seed=1))


def test_difference():
    nan, inf = float("nan"), float("inf")
    same = np.array([1.0, 200.0, nan, inf])
    assert difference(same, same + np.array([9e-6, 1.9e-3, 0, 0]), 1e-5) is None
    assert difference(np.array([1.0, 2.0]), np.array([1.0, 2.1]), 1e-5) == (
        "window 1 gives 2 instead of 2.1"
    )
    assert difference(np.array([nan]), np.array([1.0]), 1e-5) is not None
