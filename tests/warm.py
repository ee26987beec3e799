"""Commands in processes that have everything imported, forked from a server as trainings are.

They are processes of their own, with their own folder, environment and streams; what they save is
the seconds that an interpreter takes to import torch and Lightning, and each of its trainings
again. Nothing but the imports is shared.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest

from hbn_foundation.training.supervision import fork_server, process

TESTS = Path(__file__).parent
_LOCK = threading.Lock()
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["warm_imports"])


def run(
    module: str,
    arguments: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Do what `python -m module arguments` does in a folder; return its status and what it said."""
    with tempfile.TemporaryDirectory() as said:
        paths = [Path(said) / name for name in ("out", "err")]
        process = _start(_become, module, arguments, folder, environment, paths)
        process.join(timeout)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            raise subprocess.TimeoutExpired([module, *arguments], timeout)
        out, err = (path.read_text(errors="replace") for path in paths)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, out, err)


@contextlib.contextmanager
def forked_trainings() -> Iterator[None]:
    """Let trainings of this process be forked, too."""
    ours, theirs = Pipe()
    process = _start(_serve, ours, theirs)
    theirs.close()
    with _starting(ours):
        yield
    process.join()


def _start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _CONTEXT.Process(target=target, args=arguments)
    with _LOCK, pytest.MonkeyPatch.context() as patch:  # the first one starts the server
        patch.setenv("KEDRO_LOGGING_CONFIG", str(TESTS.parent / "conf" / "logging.yml"))
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)  # not imported again
        process.start()
    return process


def _become(module, arguments, folder, environment, paths) -> None:
    from kedro.framework.project import LOGGING

    os.setsid()
    for number, path in enumerate(paths, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1) for number in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
    inspect.stack = partial(inspect.stack, 0)  # Dynaconf's, which looks at every module otherwise
    LOGGING.__init__()  # type: ignore[misc]
    sys.argv[1:] = arguments
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        _serve(ours, theirs)
    theirs.close()
    try:
        with _starting(ours):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        os.waitpid(pid, 0)


def _serve(ours: Connection, theirs: Connection) -> None:
    os.setsid()
    ours.close()
    logging.root.handlers.clear()  # those of Kedro: a training has its own
    fork_server.serve(theirs, [])


@contextlib.contextmanager
def _starting(connection: Connection) -> Iterator[None]:
    """Let the server behind a connection fork the trainings, instead of new interpreters."""
    server = fork_server.ForkServer(())
    server._connection = connection
    server.process = fork_server.ForkedProcess(0, lambda: None)  # it lives as long as this one
    connection.recv()  # it is ready
    start = server.start_child
    interpreter = SimpleNamespace(
        DEVNULL=subprocess.DEVNULL, Popen=lambda command, **_: start(Path(command[-2]))
    )
    with contextlib.closing(connection), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fork_server.ForkServer, "start_child", lambda _, folder: start(folder))
        patch.setattr(process, "subprocess", interpreter)
        yield
