"""The bar on a real terminal, and the lines elsewhere."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pytest

from hbn_foundation import progress
from hbn_foundation.signals.parallel import run_parallel
from hbn_foundation.training.supervision import display
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.heartbeat import Beat

HERE = Path(__file__).parent
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"  # the cursor
LOG = "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')"
WATCHED = f"""{LOG}
import stand_in, sys
from pathlib import Path
stand_in.main(Path(sys.argv[1]), {{"fault": "kill@8", "pause": 0.08}})
"""
ALONE = f"""{LOG}
import time
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.heartbeat import Beat
with Display() as display:
    for step in range(1, 6):
        display.show(Beat(
            section="step", epoch=1, epochs=2, step=step, steps=10, device="cuda",
            loss=0.25, windows_per_second=512.3, seconds_left=60.0 * (10 - step),
        ))
        time.sleep(0.12)
        if step == 3:
            display.line("epoch 1 of 2: [loss] 0.250")
print("after it")
"""


def on_a_terminal(code: str, *arguments: str, columns: int = 80) -> str:
    """Run Python code on a pseudo-terminal; return all that it wrote there."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        os.execve(sys.executable, [sys.executable, "-c", code, *arguments], environment)
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        written += part
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, written.decode()
    return written.decode()


def test_the_bar_tells_how_it_goes():
    text = on_a_terminal(ALONE)
    assert "epoch 1/2  loss 0.250  512 windows/s" in text
    assert "9 min 00 s left  cuda" in text
    assert "5 min 00 s left  cuda" in text.rpartition("epoch 1/2")[2]
    assert text.count(HIDDEN) == text.count(SHOWN) == 2
    assert text.rindex(SHOWN) > text.rindex(HIDDEN)
    lines = [line.split("\r")[-1] for line in text.split("\r\n")]
    assert [line for line in lines if line.endswith("epoch 1 of 2: [loss] 0.250")]
    assert lines[-2].endswith("after it")


@pytest.mark.parametrize("columns", [20, 50])
def test_the_bar_keeps_to_one_line_of_a_narrow_terminal(columns):
    text = on_a_terminal(ALONE, columns=columns)
    assert "epoch 1/2" in text
    assert "\x1b[2A" not in text  # it never goes up by more than its own line


def test_the_bar_outlives_a_killed_child(tmp_path):
    text = on_a_terminal(WATCHED, str(tmp_path))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stopped"] == "all epochs"
    before, _, rest = text.partition("it was ended by SIGKILL; restart on simulated")
    assert "epoch 2/4  loss 1.000" in before
    assert before.rindex(SHOWN) > before.rindex(HIDDEN)
    assert before.rpartition("\r\n")[2].endswith("training on simulated, step, step 7: ")
    _, _, on_cpu = rest.partition("restart on cpu from the last checkpoint")
    assert "epoch 4/4" in on_cpu
    assert " cpu" in on_cpu
    assert on_cpu.rindex(SHOWN) > on_cpu.rindex(HIDDEN)


def test_in_a_worker_and_without_a_terminal_there_are_lines_alone(caplog, capfd):
    text = on_a_terminal(f"from hbn_foundation.progress import *\ndraw_nothing()\n{ALONE}")
    assert HIDDEN not in text
    assert "epoch 1 of 2: [loss] 0.250" in text
    drawn = [list(run_parallel(can_draw, [None], n_jobs)) for n_jobs in (0, 1)]
    assert drawn == [[(None, True)], [(None, False)]]
    caplog.set_level(logging.INFO)
    with Display() as shown:
        shown.show(Beat(section="step", step=1, steps=2))
        shown.line("epoch 1 of 1")
    assert caplog.messages == ["epoch 1 of 1"]
    assert "━" not in capfd.readouterr().err


def can_draw(_) -> bool:
    return not progress._DRAWN


def test_silence_shows_on_the_bar(monkeypatch):
    now = 100.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    shown = Display()
    shown.show(Beat(section="step", epoch=1, epochs=3, device="cuda"))
    assert shown.describe() == "epoch 1/3  cuda"
    now = 114.0
    assert shown.describe() == "epoch 1/3  cuda  silent for 14 s"
