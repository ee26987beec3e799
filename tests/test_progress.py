"""Long work is never silent, and the time left is told right."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hbn_foundation import progress
from hbn_foundation.errors import UserError
from hbn_foundation.progress import Count, duration, log_file, say, track

SILENCE = Path(__file__).parents[1] / "benchmarks" / "silence.py"
WORK = """
import logging, sys, time
from hbn_foundation import progress
logging.basicConfig(level=logging.INFO, format="%(message)s")
progress.MAX_SILENCE = {True: 0.3, False: 0.3}
progress.POLL_SECONDS = 0.1
with progress.working(lambda: f"the node: {time.monotonic():.1f} s so far"):
    time.sleep(1.0)
    for item in progress.track([1, 2], "folds"):
        time.sleep(1.5)
        progress.say(f"fold {item} is done")
"""


@pytest.mark.parametrize("where", [[], ["--file"]])
def test_work_that_takes_long_is_not_silent(where):
    """Neither before the first item nor inside one, on a terminal and in a file."""
    command = [
        sys.executable,
        str(SILENCE),
        "--most",
        "1.4",
        *where,
        "--",
        sys.executable,
        "-c",
        WORK,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "the node: " in done.stdout
    assert re.search(r"folds:? 1( of |/)2, about", done.stdout)
    assert "fold 2 is done" in done.stdout


def test_a_second_run_does_not_mix_with_the_first(tmp_path, monkeypatch):
    """Later runs are appended, each under its command; one beside another has its own file."""
    monkeypatch.setattr(progress.LOGGER, "level", logging.INFO)
    path = tmp_path / "logs" / "foundation.log"
    with log_file(path, "first"):
        say("of the first")
        with log_file(path, "beside"):
            pass
        with pytest.raises(ZeroDivisionError), log_file(path, "beside, too"):
            1 / 0  # noqa: B018
    with log_file(path, "second") as alone:
        alone.info("to the file alone")
    say("of none")
    lines = path.read_text()
    said = [line[21:].partition(" (")[0] for line in lines.splitlines() if "Log: " not in line]
    assert said[0] == "==== first"
    assert said[-2:] == ["==== second", "to the file alone"]
    other = path.with_stem(f"foundation-{os.getpid()}").read_text()
    assert other.count("====") == 2
    assert "ZeroDivisionError: division by zero" in other
    assert "of the first" in lines
    assert "of none" not in lines + other


def test_a_log_that_cannot_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(UserError, match=r"logs/x.log: the log cannot be written \(File exists\)"):
        log_file(tmp_path / "logs" / "x.log", "").__enter__()


def test_the_time_left_follows_from_what_is_done(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    count = Count("folds", 4)
    now = 110.0  # a fold takes ten seconds
    count.done = 1
    assert count.line() == "folds: 1 of 4, about 30 s left"


def test_without_anything_done_no_time_is_promised():
    assert Count("folds", 4).seconds_left() is None
    assert re.fullmatch(r"folds: 0 of 4, \d s so far", Count("folds", 4).line())
    assert list(track(iter("ab"), "letters")) == ["a", "b"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (599.0, "9 min 59 s"),
        (599.7, "10 min"),
        (3599.0, "1 h 00 min"),
        (7260.0, "2 h 01 min"),
        (201_000.0, "2 d 7 h"),
        (float("inf"), "an unknown time"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
