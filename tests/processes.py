"""Other processes, for tests that wait for them or halt them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def state(pid: int) -> str:
    """State of a process, as R, S or T (halted); Z, too, where there is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def alive(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for yet is dead."""
    return state(pid) != "Z"


def imported_by(code: str) -> set[str]:
    """Packages that Python code imports, in a process of its own."""
    told = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{told}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process that is halted."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sets = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(one & 1 << number - 1 for one in sets)


def wait_for(condition, seconds: float = 180.0):
    """Wait until a condition holds, and return it; long, for machines that are busy."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)
    return found


def interrupt_halted(process: subprocess.Popen, number: int, child: int) -> None:
    """Send a signal to a training whose child is halted; the child goes on once asked to stop.

    So the request never comes after the last step, however busy the machine.
    """
    process.send_signal(number)
    if number == signal.SIGKILL:
        return
    wait_for(lambda: pending(child, signal.SIGTERM))
    os.kill(child, signal.SIGCONT)
