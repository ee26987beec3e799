"""One child process: start it, ask it for its stack, end it. Every wait is bounded."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hbn_foundation.training.supervision.link import Orders

LOG, ERRORS = "log.txt", "errors.txt"
RESULT, FAILURE, STACK = "result.json", "failure.json", "stack.txt"
EXIT_FAILURE, EXIT_FULL_DISK = 3, 4  # the second where not even the failure can be written
MOST_STACK = 20_000  # characters kept of a stack


class Child:
    """A running child.

    Parameters
    ----------
    folder
        Of the run; the child's output goes to files there.
    target
        `module:function` that it calls.
    arguments
        Its keyword arguments.
    orders
        What the supervisor adds.
    """

    def __init__(
        self, folder: Path, target: str, arguments: dict[str, Any], orders: Orders
    ) -> None:
        for name in (RESULT, FAILURE, STACK, LOG, ERRORS):
            (folder / name).unlink(missing_ok=True)
        self.folder = folder
        self._read = 0
        self.process: Any = self._start()
        self._give((target, arguments, orders))

    def _start(self) -> Any:
        """Start the interpreter; what is returned is used as a `subprocess.Popen` is."""
        module = "hbn_foundation.training.supervision.child"
        with open(self.folder / LOG, "wb") as log, open(self.folder / ERRORS, "wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-u", "-m", module, str(self.folder), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the parent, and the group can be killed
            )

    def _give(self, work: tuple[Any, ...]) -> None:
        """Hand the work over; a child that hangs as it starts does not read it."""
        threading.Thread(target=self._send, args=(work,), daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self.process.poll() is not None

    def new_lines(self) -> list[str]:
        """Give the lines it has said since the last call."""
        with open(self.folder / LOG, "rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        return text[:whole].decode(errors="replace").splitlines()

    def ask_to_stop(self) -> None:
        """Ask it to stop at the end of its step."""
        if not self.ended:
            self.process.send_signal(signal.SIGTERM)

    def end(self, stack_seconds: float, kill_seconds: float) -> bool:
        """Take its stack, then kill it and all that it started; False when it cannot be killed."""
        if not self.ended and stack_seconds > 0 and hasattr(signal, "SIGABRT"):
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            self._wait(stack_seconds)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        return self._wait(kill_seconds)

    def stack(self) -> str:
        """Give the stacks that it left, or the last lines of its errors."""
        for name in (STACK, ERRORS):
            path = self.folder / name
            text = path.read_text(errors="replace").strip() if path.is_file() else ""
            if text:
                return text[-MOST_STACK:]
        return ""

    def how_it_ended(self) -> str:
        """Say in a few words how it ended."""
        code = self.process.returncode
        if code is None:
            return "it cannot be killed"
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with status {code}"

    def _send(self, work: tuple[Any, ...]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            pickle.dump(work, pipe)

    def _wait(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            time.sleep(0.02)
        return self.ended
