"""What a person sees of a sweep on its way."""

import io
import os
import pty
import select
import subprocess
import sys

import pytest
from rich.console import Console

from hbn_foundation.sweeps.live import Live
from hbn_foundation.sweeps.running import BLOCKED, DONE, FAILED, KEPT, Outcome

OUTCOMES = {
    "base-a": Outcome(DONE, seconds=30.0),
    "base-b": Outcome(KEPT),
    "base-c": Outcome(FAILED, "an error"),
    "finetune-a": Outcome(DONE, seconds=4.0),
    "finetune-b": Outcome(DONE, seconds=8.0),
    "finetune-c": Outcome(BLOCKED),
}
SCRIPT = """
import logging, time
from hbn_foundation.sweeps.live import Live
from hbn_foundation.progress import say
logging.basicConfig(level=logging.INFO, format="%(message)s")
live = Live(3, 9)
live.begin(2, None)
live.show({}, {"base-a"})
time.sleep(1)
say("base-a failed: an error")
live.close()
"""


@pytest.fixture
def live():
    found = Live(3, 9)
    found.begin(2, None)
    yield found
    found.close()


def test_a_line_counts_and_says_how_long_the_rest_takes(live):
    """Six fine-tunings of six seconds are left for two workers."""
    assert live.line(OUTCOMES, {"finetune-d"}) == (
        "sweep: bases 2 of 3, fine-tunings 2 of 9; 1 failed; 1 blocked; about 18 s left"
    )


def test_nothing_is_promised_before_anything_is_done(live):
    some = {name: outcome for name, outcome in OUTCOMES.items() if name.startswith("base")}
    assert live.seconds_left(some) is None
    assert "left" not in live.line(some, set())


def test_the_table_has_a_row_for_each_kind(live):
    console = Console(file=io.StringIO(), width=120)
    console.print(live.table(OUTCOMES, {"finetune-d", "finetune-e"}))
    text = console.file.getvalue()
    cells = [[part.strip() for part in line.split("│")[1:-1]] for line in text.splitlines()]
    assert ["bases", "3", "1", "1", "0", "1", "0"] in cells
    assert ["fine-tunings", "9", "2", "0", "2", "0", "1"] in cells


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminal to be had")
def test_a_line_of_the_log_stands_above_the_table():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        try:
            said += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    process.wait()
    os.close(ours)
    (line,) = [line for line in said.decode().splitlines() if "failed: an error" in line]
    assert "└" not in line  # not behind the table's last row
    assert "│" not in line
