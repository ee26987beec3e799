"""Submissions are run by a clean process, and what would fail where they are scored is told."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch
from toys import saved, written

from hbn_foundation.errors import UserError
from hbn_foundation.submission import process
from hbn_foundation.submission.archive import Submission, zip_bytes
from hbn_foundation.submission.params import LimitParams, ValidationParams
from hbn_foundation.submission.validation import difference, failures, validate_submission
from hbn_foundation.submission.windows import example_windows

FAST = ValidationParams(n_windows=5, batch_size=3, limits=LimitParams(threads=1))


def failed(submission: Submission, **changes: object) -> list[str]:
    report = validate_submission(submission, params=FAST.model_copy(update=changes))
    lines = failures(report)
    assert report["passed"] is not bool(lines)
    assert not any("\n" in line for line in lines)
    return lines


def test_a_submission_that_passes(tmp_path):
    """From its file, against what its models predict."""
    path = written(second="return volts[:, :1, 0]").save(tmp_path / "a.zip")
    expected = {1: lambda v: v.mean((1, 2)), 2: lambda v: v[:, 0, 0]}
    report = validate_submission(path, expected, FAST)
    assert failures(report) == []
    assert report["passed"] is True
    assert len(report["sha256"]) == 64
    assert 50 < report["peak_megabytes"] < 4096
    names = [check["check"] for check in report["checks"]]
    for challenge in (1, 2):
        assert f"challenge {challenge}: as the project predicts" in names
        assert f"challenge {challenge}: the same in batches of 1 and 3" in names
        assert f"challenge {challenge}: the same in another order" in names


def test_models_in_16_bits_may_differ_by_their_rounding():
    """Only they: the last bits of an input decide how a number of 16 bits is rounded."""
    submission = written(second="return volts[:, :1, 0]")
    expected = {1: lambda v: v.mean((1, 2)) + 3e-4, 2: lambda v: v[:, 0, 0] + 3e-4}
    report = validate_submission(submission, expected, FAST, in_16_bits={2})
    (line,) = failures(report)
    assert line.startswith("challenge 1: as the project predicts")


def test_the_project_cannot_be_imported(monkeypatch):
    # a package that is installed here stands in for the project where it is installed
    monkeypatch.setattr(process, "BLOCKED", (*process.BLOCKED, "safetensors"))
    for name in process.BLOCKED:
        (line,) = failed(written(made=f"__import__('{name}')"))
        assert line == f"runs without an error: ModuleNotFoundError: No module named '{name}'"


def test_states_neighbours_and_other_predictions():
    submission = written(
        init="self.seen = 0",
        forward="self.seen += len(volts); return torch.full((len(volts), 1), float(self.seen))",
        second="return 1e6 * volts[:, :1, 0] + volts.abs().sum()",
    )
    report = validate_submission(submission, {1: lambda windows: np.zeros(len(windows))}, FAST)
    assert {line.split(": window")[0] for line in failures(report)} == {
        "challenge 1: the same in batches of 1 and 3",
        "challenge 1: the same in another order",
        "challenge 1: the same a second time",
        "challenge 1: as the project predicts",
        "challenge 2: the same in batches of 1 and 3",
        "challenge 2: the same a second time",
    }


def test_wrong_outputs():
    nan = "return volts[:, :1, 0] * float('nan')"
    lines = failed(written(forward="return volts[:, 0, 0]", second=nan))
    assert lines == [
        "challenge 1: gives (B, 1): [1] instead of [1, 1]",
        "challenge 2: every value is finite: window 0 gives nan",
    ]


def test_sleeping():
    limits = LimitParams(threads=1, request_seconds=0.5, window_seconds=0.1)
    lines = failed(written(top="import time", forward="time.sleep(1000)"), limits=limits)
    assert lines == ["stays within the time allowed: challenge 1: no answer to 5 windows after 1 s"]


def test_taking_too_much_memory():
    hog = "[torch.ones(10_000_000) for _ in range(200)]; return volts[:, :1, 0]"
    lines = failed(written(forward=hog), limits=LimitParams(memory_megabytes=700.0, threads=1))
    assert len(lines) == 1
    assert lines[0].startswith("stays within the memory allowed: ")
    assert lines[0].endswith(" MB in use; at most 700 MB are allowed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            "print('well', flush=True); os._exit(7)",
            "runs without an error: its process ended by itself with status 7: well",
        ),
        ("time.sleep(1000)", "stays within the time allowed: not ready after 20 s"),
        ("os.environ['SECRET']", "runs without an error: KeyError: 'SECRET'"),
    ],
)
def test_models_that_are_not_made(what, expected, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    limits = LimitParams(threads=1, start_seconds=20.0)
    assert failed(written(top="import os, time", made=what), limits=limits) == [expected]


@pytest.mark.slow
def test_what_it_started_ends_with_it(tmp_path):
    """Nothing is left when a submission is stopped."""
    alive = tmp_path / "alive"
    loop = f"while true; do echo > {alive}; sleep 0.05; done"
    spawn = f"libc.execl(b'/bin/sh', b'sh', b'-c', {loop.encode()!r}, None)"
    top = f"import ctypes, time\nlibc = ctypes.CDLL(None)\nif libc.fork() == 0: {spawn}"
    limits = LimitParams(threads=1, start_seconds=20.0)
    failed(written(top=top, made="time.sleep(1000)"), limits=limits)
    assert alive.exists()
    alive.unlink()
    time.sleep(0.5)
    assert not alive.exists()


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("content", [saved({"a": Evil()}), saved(torch.nn.Linear(2, 2)), b"none"])
def test_weights_that_are_more_than_numbers(content):
    (line,) = failed(written(**{"weights.pt": content}))
    assert line.startswith("weights are plain state dicts: weights.pt: ")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.py": b"from __future__ import annotations\nimport numpy"}, "a.py line 2: imports num"),
        ({"a.py": b"try: pass\nexcept* ValueError: pass"}, "a.py line"),
        ({"m.zip": zip_bytes({"b/c.py": b"import pandas.io"})}, "m.zip/b/c.py line 1: imports pan"),
    ],
)
def test_sources_that_need_more_than_there_is(files, expected):
    (line,) = failed(written(**files))
    assert line.startswith(f"runs with Python 3.10, torch and no other package: {expected}")


def test_modules_beside_it_may_be_imported():
    helper = {"helper.py": b"from . import submission\nimport submission, os.path"}
    assert failed(written(**helper)) == []


def test_a_zip_that_is_none(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    (line,) = failures(validate_submission(tmp_path / "a.zip"))
    assert "cannot be read as a zip" in line


def test_an_interpreter_that_is_not_there():
    limits = LimitParams(python="/no/such/python")
    with pytest.raises(UserError, match=r"limits\.python='/no/such/python': cannot be run"):
        validate_submission(written(), params=ValidationParams(limits=limits))


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
    message = "window 1 gives 2 instead of 2.1"
    assert difference(np.array([1.0, 2.0]), np.array([1.0, 2.1]), 1e-5) == message
    assert difference(np.array([nan]), np.array([1.0]), 1e-5) is not None
