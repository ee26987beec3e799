"""One child process: start it, take its stack, end it. Every wait has a limit."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hbn_foundation.training.supervision.link import Orders

WORK, LOG, ERRORS = "work.pickle", "log.txt", "errors.txt"
RESULT, FAILURE, STACK = "result.json", "failure.json", "stack.txt"
EXIT_FAILURE, EXIT_FULL_DISK = 3, 4  # the second: not even the failure could be written
MAX_STACK = 20_000  # characters kept of a stack


class Process(Protocol):
    """A process as `subprocess.Popen` has it."""

    pid: int
    returncode: Any

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""


def start_interpreter(folder: Path, environment: dict[str, str] | None = None) -> Process:
    """Start a child in an interpreter of its own; its work and its streams are files there.

    `environment` is set beside that of this process.
    """
    module = "hbn_foundation.training.supervision.child"
    with open(folder / LOG, "wb") as log, open(folder / ERRORS, "wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", module, str(folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the parent, and the group can be killed
        )


class Child:
    """A running child: the work, its output and its result are files in the run's folder.

    It calls `target`, as `module:function`, with the arguments and a `Link` with the orders;
    `start` starts its process, given the folder.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        arguments: dict[str, Any],
        orders: Orders,
        start: Callable[[Path], Process] = start_interpreter,
    ) -> None:
        for name in (RESULT, FAILURE, STACK, ERRORS):
            (folder / name).unlink(missing_ok=True)
        (folder / LOG).write_bytes(b"")
        with open(folder / WORK, "wb") as file:
            pickle.dump((target, arguments, orders), file)
        self.folder = folder
        self._read = 0
        self.process = start(folder)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def new_lines(self) -> list[str]:
        """Give the lines it has printed since the last call."""
        with open(self.folder / LOG, "rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        return text[:whole].decode(errors="replace").splitlines()

    def ask_to_stop(self) -> None:
        """Ask it to stop at the end of its step."""
        self.process.send_signal(signal.SIGTERM)

    def end(self, stack_seconds: float, kill_seconds: float) -> bool:
        """Take its stack, then kill it and all that it started; False when it cannot be killed."""
        if stack_seconds > 0 and not self.ended:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            self._wait(stack_seconds)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.send_signal(signal.SIGKILL)
        return self._wait(kill_seconds)

    def stack(self) -> str:
        """Give the stacks that it left, or the last lines of its errors."""
        for name in (STACK, ERRORS):
            path = self.folder / name
            text = path.read_text(errors="replace").strip() if path.is_file() else ""
            if text:
                return text[-MAX_STACK:]
        return ""

    def how_it_ended(self) -> str:
        """Say in a few words how it ended."""
        code = self.process.returncode
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with status {code}"

    def _wait(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            time.sleep(0.02)
        return self.ended
