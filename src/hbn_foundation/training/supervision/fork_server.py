"""A server that has imported what trainings need, and forks a child for each.

>>> server = ForkServer(("hbn_foundation.training.pretrain",))
>>> Supervisor(..., start_child=server.start_child)

A child runs `child.main`, as a fresh interpreter does, without the seconds of imports. Meant for
trainings on the CPU: a driver's threads and locks should not be inherited by a fork. The server
itself computes nothing, so that no thread of a numerical library exists when it forks.

The fork server of `multiprocessing` does not serve here. Its processes cannot be started from a
daemonic process, as the workers of Dask and loky are; the interpreter waits for them without limit
when it exits; they import the user's main script again; and they keep the server alive, and a hung
child with it, when the process that started it is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from hbn_foundation.training.supervision import child
from hbn_foundation.training.supervision.process import ERRORS, LOG

SECONDS_TO_START = 120.0  # the imports, on a busy machine
READY = "ready"


class ForkServerError(RuntimeError):
    """The server did not start, or has ended."""


class ForkServer:
    """Starts children that have everything imported; one server serves many, one after another.

    It ends with the process that made it, and so do its children. One that was killed is started
    again for the next child.

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
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start_child(self, folder: Path) -> ForkedProcess:
        """Fork a child for a run's folder.

        Raises
        ------
        ForkServerError
            When the server does not start, or ends.
        """
        with self._lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            assert self.process is not None
            pid = self._ask(str(folder))
            if pid is None:
                raise ForkServerError(
                    f"the fork server ended with status {self.process.wait(SECONDS_TO_START)}"
                )
            return ForkedProcess(pid, partial(self._status, pid, self.process))

    def _status(self, pid: int, server: subprocess.Popen[bytes]) -> int | None:
        with self._lock:
            if server is not self.process or server.poll() is not None:
                return -signal.SIGKILL  # a server that ends takes its children along
            return self._ask(pid)

    def close(self) -> None:
        """End the server and its children."""
        with self._lock:
            if self.process is not None and self._connection is not None:
                self._connection.close()
                try:
                    self.process.wait(5.0)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                self.process = None

    def _ask(self, request: str | int) -> int | None:
        """Ask the server; None also where it is gone."""
        assert self._connection is not None
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            return None

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        module = "hbn_foundation.training.supervision.fork_server"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), *self._modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # of what the imports print
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, **self._environment},
        )
        theirs.close()
        if not self._connection.poll(SECONDS_TO_START):
            self.process.kill()
            raise ForkServerError(f"the fork server is not ready after {SECONDS_TO_START:g} s")
        with contextlib.suppress(EOFError, OSError):  # the first request tells
            self._connection.recv()


class ForkedProcess:
    """A forked child, to be used as a `subprocess.Popen` is.

    `pid` is also the id of its group; `status` gives its exit status, None while it runs.
    """

    def __init__(self, pid: int, status: Callable[[], int | None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._status()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


def serve(connection: Connection, modules: list[str]) -> None:
    """Answer requests until the client closes the connection or ends.

    A request is a folder, to fork a child for it, or the process id of a child, to be told its
    exit status.
    """
    for name in modules:
        import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the client
    server = os.getpid()  # a child of a dead server has another parent
    running: set[int] = set()
    with contextlib.suppress(EOFError, OSError):
        connection.send(READY)
        while True:
            request = connection.recv()
            if isinstance(request, int):
                ended, status = os.waitpid(request, os.WNOHANG)
                running -= {ended}
                connection.send(os.waitstatus_to_exitcode(status) if ended else None)
                continue
            pid = os.fork()
            if pid == 0:
                run_child(Path(request), connection, server)
            running.add(pid)
            connection.send(pid)
    for pid in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # nothing to clean up, and libraries take their time with it


def run_child(folder: Path, connection: Connection, server: int) -> NoReturn:
    """Become what `python -m ….child` would be: own session, own signals, files for streams."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        connection.close()
        for number, name in ((1, LOG), (2, ERRORS)):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        child.run(folder, server)
    finally:
        os._exit(1)  # not into the server's loop


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2:])
