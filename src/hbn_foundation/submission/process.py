"""A submission in a process of its own, within limits of memory and time.

The code of the zip runs. The process sees none of the environment's secrets and is ended when it
goes over a limit; that finds mistakes, and is no protection from code that means harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import psutil

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import LimitParams
from hbn_foundation.submission.windows import SFREQ

RUNNER = Path(__file__).with_name("runner.py")
BLOCKED = ("hbn_foundation",)
POLL_SECONDS = 0.02
EXIT_SECONDS = 5.0
#: What a submission sees of the environment: nothing that could hold a secret.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
               "OPENBLAS_CORETYPE")  # fmt: skip
MAX_PRINTED = 2000  # characters of what it printed before it failed


class SubmissionError(UserError):
    """A submission did not do what it should; `kind` is `error`, `time`, `memory` or `ended`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Answers(NamedTuple):
    """What the harness reads of outputs (n,), and wrong shapes, each with the one expected."""

    values: np.ndarray
    wrong_shapes: list[tuple[list, list]]


@contextlib.contextmanager
def running(submission: Submission, limits: LimitParams) -> Iterator[RunningSubmission]:
    """Unpack a submission into an empty folder and run it there; both are gone afterwards.

    Raises
    ------
    SubmissionError
        When its models cannot be made, or it goes over a limit.
    """
    with (
        tempfile.TemporaryDirectory(prefix="submission-") as place,
        tempfile.TemporaryFile() as log,
    ):
        folder = Path(place).resolve()
        submission.unpack(folder)
        connection, child_end = Pipe()
        with connection, child_end:
            process = _start(folder, limits, child_end, log)
            child_end.close()
            try:
                running = RunningSubmission(process, connection, log, limits)
                running.wait_until_ready()
                yield running
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # with all that it started
                process.wait()


def _start(folder: Path, limits: LimitParams, child_end: Connection, log: IO[bytes]) -> Any:
    settings = {"sfreq": SFREQ, "device": limits.device, "threads": limits.threads,
                "blocked": BLOCKED}  # fmt: skip
    inherited = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    own = {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": str(limits.threads)}
    python, number = limits.python or sys.executable, child_end.fileno()
    arguments = [str(RUNNER), str(folder), json.dumps(settings), str(number)]
    try:
        return subprocess.Popen(
            [python, "-I", "-B", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=inherited | own, cwd=folder, pass_fds=[number], start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"limits.python={python!r}: cannot be run ({error.strerror})") from None


class RunningSubmission:
    """A submission whose models are made, in a process of its own.

    Attributes
    ----------
    peak_megabytes
        The most memory that was seen in use.
    versions
        Of Python and torch there.
    weights_problem
        Why its weights are no plain state dicts; None when they are.
    """

    versions: dict[str, str]
    weights_problem: str | None

    def __init__(
        self, process: Any, connection: Connection, log: IO[bytes], limits: LimitParams
    ) -> None:
        self.limits = limits
        self.peak_megabytes = 0.0
        self._process = process
        self._connection = connection
        self._log = log

    def wait_until_ready(self) -> None:
        """Wait until both models are made."""
        deadline = time.monotonic() + self.limits.start_seconds
        late = f"not ready after {self.limits.start_seconds:g} s"
        first = self._reply(deadline, late)
        self.versions, self.weights_problem = first["versions"], first["weights"]
        self._reply(deadline, late)

    def predict(self, challenge: int, windows: np.ndarray, batch_size: int = 1) -> Answers:
        """Predict windows (n, channels, samples) in volts by the model of challenge 1 or 2."""
        samples = np.ascontiguousarray(windows, dtype=np.float32)
        request = {"challenge": challenge, "shape": samples.shape, "batch_size": batch_size}
        with contextlib.suppress(OSError):  # it has ended; the reply tells how
            self._connection.send_bytes(json.dumps(request).encode())
            self._connection.send_bytes(samples.tobytes())
        seconds = self.limits.request_seconds + self.limits.window_seconds * len(samples)
        late = f"challenge {challenge}: no answer to {len(samples)} windows after {seconds:g} s"
        reply = self._reply(time.monotonic() + seconds, late)
        return Answers(np.array(reply["values"], dtype=np.float64), reply["wrong_shapes"])

    def _reply(self, deadline: float, too_late: str) -> dict[str, Any]:
        try:
            while not self._connection.poll(POLL_SECONDS):
                with contextlib.suppress(psutil.Error):
                    self._check_memory(psutil.Process(self._process.pid).memory_info().rss / 1e6)
                if time.monotonic() > deadline:
                    raise SubmissionError("time", too_late)
            reply: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            message = f"its process ended by itself{self._exit_message()}"
            raise SubmissionError("ended", message) from None
        if "error" in reply:
            raise SubmissionError("error", reply["error"])
        self._check_memory(reply["peak_megabytes"])
        return reply

    def _check_memory(self, megabytes: float) -> None:
        self.peak_megabytes = max(self.peak_megabytes, megabytes)
        most = self.limits.memory_megabytes
        if self.peak_megabytes > most:
            used = f"{self.peak_megabytes:,.0f} MB in use; at most {most:,.0f} MB are allowed"
            raise SubmissionError("memory", used)

    def _exit_message(self) -> str:
        """Give the exit status and the last line that was printed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - MAX_PRINTED, 0))
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" with status {self._process.returncode}" + (f": {last[:200]}" if last else "")
