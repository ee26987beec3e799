"""Children from a fork server: the client's side.

>>> server = ForkServer(("hbn_foundation.training.pretraining",))
>>> Supervisor(..., start_child=server.start_child)
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hbn_foundation.training.supervision.fork_server import WORK
from hbn_foundation.training.supervision.process import ERRORS, LOG, Child

SECONDS_TO_START = 120.0  # the imports, on a busy machine


class ForkServerError(RuntimeError):
    """The server did not start, or is gone."""


class ForkServer:
    """Starts children that have everything imported; one server serves many, one after another.

    It ends with the process that made it, and so do its children.

    Parameters
    ----------
    modules
        What to import beforehand.
    environment
        Variables for the server and its children, such as the number of threads.
    """

    def __init__(self, modules: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
        self._modules = modules
        self._environment = environment or {}
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._started: list[int] = []
        self._ended: dict[int, int] = {}

    def start_child(self, folder: Path, target: str, arguments: Any, orders: Any) -> Child:
        """Start a child, with the arguments of `Child`."""
        return ForkedChild(folder, target, arguments, orders, server=self)

    def fork(self, folder: Path) -> int:
        """Fork a child for a folder; return its process id.

        Raises
        ------
        ForkServerError
            When the server is gone and does not start again.
        """
        with self._starting:
            server = self._running()
            assert server.stdin is not None
            try:
                server.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
                server.stdin.flush()
            except OSError as error:
                raise ForkServerError(f"the fork server is gone ({error})") from None
            with self._changed:
                self._wait_for(lambda: bool(self._started), server, "starts no child")
                return self._started.pop()

    def status(self, pid: int) -> int | None:
        """Exit status of a child, negative for a signal; None while it runs."""
        with self._changed:
            if pid in self._ended:
                return self._ended[pid]
            server = self._server
        if server is None or server.poll() is not None:  # it took its children along
            return -int(signal.SIGKILL)
        return None

    def close(self) -> None:
        """End the server and its children."""
        server, self._server = self._server, None
        if server is not None:
            assert server.stdin is not None
            with contextlib.suppress(OSError):
                server.stdin.close()
            try:
                server.wait(5.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        """Give the server, started where it is not yet or no longer running."""
        if self._server is None or self._server.poll() is not None:
            with self._changed:
                self._ready, self._started, self._ended = False, [], {}
            self._server = None
            born = threading.Event()
            # the system ends a server with the thread that started it: one that lives as long
            threading.Thread(target=self._serve, args=(born,), daemon=True).start()
            born.wait()
            if self._server is None:
                raise ForkServerError("the fork server cannot be started")
        server = self._server
        with self._changed:
            self._wait_for(lambda: self._ready, server, "does not get ready")
        return server

    def _wait_for(self, condition: Any, server: subprocess.Popen[bytes], what: str) -> None:
        until = time.monotonic() + SECONDS_TO_START
        while not condition():
            if server.poll() is not None:
                raise ForkServerError(f"the fork server ended with status {server.returncode}")
            if time.monotonic() > until:
                server.kill()
                raise ForkServerError(f"the fork server {what} within {SECONDS_TO_START:g} s")
            self._changed.wait(0.5)

    def _serve(self, born: threading.Event) -> None:
        """Start the server and listen to it to its end."""
        module = "hbn_foundation.training.supervision.fork_server"
        try:
            server = subprocess.Popen(
                [sys.executable, "-m", module, str(os.getpid()), *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )
            self._server = server
        finally:
            born.set()
        assert server.stdout is not None
        for line in server.stdout:
            message = json.loads(line)
            with self._changed:
                if self._server is not server:
                    return
                if "ready" in message:
                    self._ready = True
                elif "started" in message:
                    self._started.append(int(message["started"]))
                else:
                    self._ended[int(message["ended"])] = int(message["status"])
                self._changed.notify_all()


class ForkedProcess:
    """A forked child, to be used as a `subprocess.Popen` is.

    Parameters
    ----------
    pid
        Its process id, also that of its group.
    server
        Who forked it.
    """

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.status(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class ForkedChild(Child):
    """A child of a fork server.

    Parameters
    ----------
    folder, target, arguments, orders
        As for `Child`.
    server
        Who forks it.
    """

    def __init__(
        self, folder: Path, target: str, arguments: Any, orders: Any, *, server: ForkServer
    ) -> None:
        self._server = server
        with open(folder / WORK, "wb") as file:
            pickle.dump((target, arguments, orders), file)
        super().__init__(folder, target, arguments, orders)

    def _start(self) -> ForkedProcess:
        for stream in (LOG, ERRORS):
            (self.folder / stream).touch()
        return ForkedProcess(self._server.fork(self.folder), self._server)

    def _give(self, work: tuple[Any, ...]) -> None:
        """Nothing: the work lies in the folder already."""
