"""The child process: does the work described in a folder, and writes a result or a failure there.

Run by the supervisor as `python -m hbn_foundation.training.supervision.child <folder> <its pid>`.
Imports torch only with the work itself. The work is a pickle of the parent's, as in
multiprocessing.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from pkgutil import resolve_name
from typing import NoReturn

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, write_json
from hbn_foundation.training.supervision.incidents import classify
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.process import (
    EXIT_FAILURE,
    EXIT_FULL_DISK,
    FAILURE,
    RESULT,
    STACK,
    WORK,
)

PR_SET_PDEATHSIG = 1  # prctl(2)
SECONDS_BETWEEN_LOOKS = 2.0


def run(folder: Path, parent: int) -> NoReturn:
    """Do the work and exit at once: what libraries do at the exit takes seconds."""
    status = EXIT_FAILURE
    try:
        status = main(folder, parent)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main(folder: Path, parent: int) -> int:
    """Do the work; return the exit status."""
    exit_with(parent)
    stack = open(folder / STACK, "w")  # noqa: SIM115 - open to the end, for faulthandler
    faulthandler.enable(stack)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the data
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    try:
        target, arguments, orders = pickle.loads((folder / WORK).read_bytes())
        (folder / WORK).unlink()
        with full_disk_named(folder):
            link = Link(folder, orders)
            link.listen()
            link.beat("start", device=orders.device)
        result = resolve_name(target)(**arguments, link=link)
        write_json(folder / RESULT, result)
        link.beat("end")
    except BaseException as error:
        return write_failure(folder, error)
    return 0


def write_failure(folder: Path, error: BaseException) -> int:
    """Write a description of the error where there is room; return the exit status."""
    text = " ".join(str(error).split())
    failure = {
        "kind": classify(error),
        "message": text if isinstance(error, UserError) else f"{type(error).__name__}: {text}",
        "traceback": "".join(traceback.format_exception(error)),
    }
    try:
        write_json(folder / FAILURE, failure)
    except UserError:
        return EXIT_FULL_DISK
    return EXIT_FAILURE


def exit_with(parent: int) -> None:
    """Exit when the parent has ended, even if it was killed."""
    if sys.platform == "linux":  # also while a call holds the interpreter's lock
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
