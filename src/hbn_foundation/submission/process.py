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
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import LimitParams
from hbn_foundation.submission.windows import SFREQ

RUNNER = Path(__file__).with_name("runner.py")
BLOCKED = ("hbn_foundation",)
SECONDS_BETWEEN_LOOKS = 0.02
SECONDS_TO_END = 5.0
#: What a submission sees of the environment: nothing that could hold a secret.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
               "OPENBLAS_CORETYPE")  # fmt: skip
MOST_PRINTED = 2000  # characters of what it printed before it failed


class SubmissionError(UserError):
    """A submission did not do what it should; `kind` is `error`, `time`, `memory` or `ended`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Answers:
    """What a model predicted.

    Attributes
    ----------
    values
        (n,), what the harness reads.
    wrong_shapes
        Shapes that outputs had, each with the one expected.
    """

    values: np.ndarray
    wrong_shapes: list[tuple[list, list]] = field(default_factory=list)


class RunningSubmission:
    """A submission whose models are made, in a process of its own.

    Parameters
    ----------
    folder
        Where it is unpacked.
    limits
        Memory, time, threads, device, interpreter.

    Attributes
    ----------
    peak_megabytes
        The most memory that was seen in use.
    versions
        Of Python and torch there.
    weights_problem
        Why its weights are no plain state dicts; None when they are.

    Raises
    ------
    SubmissionError
        When it cannot be made, or goes over a limit.
    """

    def __init__(self, folder: Path, limits: LimitParams) -> None:
        self.limits = limits
        self.peak_megabytes = 0.0
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        settings = {"sfreq": SFREQ, "device": limits.device, "threads": limits.threads,
                    "blocked": BLOCKED}  # fmt: skip
        python = limits.python or sys.executable
        self._connection, theirs = Pipe()
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-B", str(RUNNER), str(folder), json.dumps(settings),
                 str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self._printed, stderr=self._printed,
                env=_environment(folder, limits.threads), cwd=folder,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"limits.python={python!r}: cannot be run ({error.strerror})") from None
        finally:
            theirs.close()
        deadline = time.monotonic() + limits.start_seconds
        too_late = f"not ready after {limits.start_seconds:g} s"
        try:
            first = self._reply(deadline, too_late)
            self.versions: dict[str, str] = first["versions"]
            self.weights_problem: str | None = first["weights"]
            self._reply(deadline, too_late)
        except BaseException:
            self.close()
            raise

    def predict(self, challenge: int, windows: np.ndarray, batch_size: int = 1) -> Answers:
        """Predict windows.

        Parameters
        ----------
        challenge
            1 or 2.
        windows
            (n, channels, samples) in volts.
        batch_size
            Windows at once.
        """
        samples = np.ascontiguousarray(windows, dtype=np.float32)
        request = {"challenge": challenge, "shape": samples.shape, "batch_size": batch_size}
        with contextlib.suppress(OSError):  # it has ended; the reply tells how
            self._connection.send_bytes(json.dumps(request).encode())
            self._connection.send_bytes(samples.tobytes())
        seconds = self.limits.request_seconds + self.limits.window_seconds * len(samples)
        late = f"challenge {challenge}: no answer to {len(samples)} windows after {seconds:g} s"
        reply = self._reply(time.monotonic() + seconds, late)
        return Answers(np.array(reply["values"], dtype=np.float64), reply["wrong_shapes"])

    def close(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        self._printed.close()

    def _reply(self, deadline: float, too_late: str) -> dict[str, Any]:
        try:
            while not self._connection.poll(SECONDS_BETWEEN_LOOKS):
                with contextlib.suppress(psutil.Error):
                    memory = psutil.Process(self._process.pid).memory_info().rss / 1e6
                    self._check_memory(memory)
                if time.monotonic() > deadline:
                    raise SubmissionError("time", too_late)
            reply: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            message = f"its process ended by itself{self._last_words()}"
            raise SubmissionError("ended", message) from None
        if "error" in reply:
            raise SubmissionError("error", reply["error"])
        self._check_memory(reply["peak_megabytes"])
        return reply

    def _check_memory(self, megabytes: float) -> None:
        self.peak_megabytes = max(self.peak_megabytes, megabytes)
        if self.peak_megabytes > self.limits.memory_megabytes:
            raise SubmissionError(
                "memory",
                f"{self.peak_megabytes:,.0f} MB in use; at most "
                f"{self.limits.memory_megabytes:,.0f} MB are allowed",
            )

    def _last_words(self) -> str:
        """Give the exit status and the last line printed; the process's number stays taken."""
        status, deadline = None, time.monotonic() + SECONDS_TO_END
        while status is None and time.monotonic() < deadline:
            options = os.WEXITED | os.WNOWAIT | os.WNOHANG
            ended = os.waitid(os.P_PID, self._process.pid, options)
            status = None if ended is None else ended.si_status
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(self._printed.tell() - MOST_PRINTED, 0))
        lines = self._printed.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" with status {status}" + (f": {last[:200]}" if last else "")


@contextlib.contextmanager
def running(submission: Submission, limits: LimitParams) -> Iterator[RunningSubmission]:
    """Unpack a submission into an empty folder and run it there; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        place = Path(folder).resolve()
        submission.unpack(place)
        process = RunningSubmission(place, limits)
        try:
            yield process
        finally:
            process.close()


def _environment(folder: Path, threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    here = {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": str(threads)}
    return {**kept, **here}
