"""A server that has imported what trainings need, and forks a child for each.

Run as `python -m hbn_foundation.training.supervision.fork_server <pid of the client> <module> …`.
It reads folders from stdin, one a line, and says on stdout which child it started and which has
ended, with its wait status. A child is what `child.py` is, without the seconds of imports.

For trainings on the CPU: a GPU's driver must not have been initialised before a fork, and cannot
be here, but a driver's own threads and locks are better not inherited at all. The server itself
computes nothing, so that no thread of a numerical library exists when it forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from hbn_foundation.training.supervision import child
from hbn_foundation.training.supervision.process import ERRORS, LOG

WORK = "work.pickle"


def main(parent: int, modules: list[str]) -> None:
    """Serve until stdin ends, which it does with the client."""
    child.end_with_parent(parent)
    replies = os.dup(1)
    os.dup2(2, 1)  # what imports print is no reply
    for name in modules:
        import_module(name)
    wakes, wake = os.pipe()
    for end in (wakes, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the client
    running: set[int] = set()
    _reply(replies, {"ready": os.getpid()})
    waiting = b""
    try:
        while True:
            ready, _, _ = select.select([0, wakes], [], [], 1.0)
            if wakes in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wakes, 4096)
            _reap(running, replies)
            if 0 in ready:
                text = os.read(0, 65536)
                if not text:
                    break
                *lines, waiting = (waiting + text).split(b"\n")
                for line in lines:
                    pid = _fork(Path(json.loads(line)["folder"]), [replies, wakes, wake])
                    running.add(pid)
                    _reply(replies, {"started": pid})
    finally:
        for pid in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # nothing to clean up, and libraries take their time with it


def _reap(running: set[int], replies: int) -> None:
    """Tell of children that have ended."""
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            running.discard(pid)
            _reply(replies, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _reply(replies: int, message: dict[str, Any]) -> None:
    os.write(replies, json.dumps(message).encode() + b"\n")


def _fork(folder: Path, own: list[int]) -> int:
    server = os.getpid()  # asked before: a child of a server that is gone has another parent
    pid = os.fork()
    if pid == 0:
        _be_the_child(folder, own, server)
    return pid


def _be_the_child(folder: Path, own: list[int], server: int) -> NoReturn:
    """Become what `python -m ….child` would be: own session, files for streams, own signals."""
    status = 1
    try:
        os.setsid()
        child.end_with_parent(server)  # from the first moment on
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in own:
            os.close(descriptor)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = [
            os.open(folder / WORK, os.O_RDONLY),
            os.open(folder / LOG, flags, 0o644),
            os.open(folder / ERRORS, flags, 0o644),
        ]
        for place, descriptor in enumerate(opened):
            os.dup2(descriptor, place)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (
            open(0, closefd=False),  # noqa: SIM115 - the streams of the process
            open(1, "w", buffering=1, closefd=False),  # noqa: SIM115
            open(2, "w", buffering=1, closefd=False),  # noqa: SIM115
        )
        status = child.main(folder, server)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # no clean-up of what the server owns


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
