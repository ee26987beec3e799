"""A submission in a process of its own, under limits."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import LimitParams

RUNNER = Path(__file__).with_name("runner.py")
SFREQ = 100
BLOCKED = ("hbn_foundation",)
SECONDS_BETWEEN_LOOKS = 0.02
SECONDS_TO_END = 5.0
#: What a submission sees of the environment: nothing that could hold a secret.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "CUDA_VISIBLE_DEVICES",
               "OPENBLAS_CORETYPE")  # fmt: skip
MOST_PRINTED = 2000  # characters of what it said before it failed


class SubmissionError(UserError):
    """A submission did not do what it should.

    Attributes
    ----------
    kind
        `error`, `time`, `memory` or `ended`.
    noted
        What it did beside computing.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.noted: list[dict[str, str]] = []


@dataclass
class Answers:
    """What a model said of windows.

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
    forbids
        Whether reading elsewhere, writing and connecting fail, or are noted alone.

    Attributes
    ----------
    noted
        What it did beside computing.
    peak_megabytes
        The most memory that was seen in use.
    versions
        Of Python and torch there.

    Raises
    ------
    SubmissionError
        When it cannot be made, or goes over a limit.
    """

    def __init__(self, folder: Path, limits: LimitParams, forbids: bool) -> None:
        self.limits = limits
        self.noted: list[dict[str, str]] = []
        self.peak_megabytes = 0.0
        self.versions: dict[str, str] = {}
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        settings = {"sfreq": SFREQ, "device": limits.device, "threads": limits.threads,
                    "blocked": BLOCKED, "forbids": forbids}  # fmt: skip
        python = limits.python or sys.executable
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-B", str(RUNNER), str(folder), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                env=_environment(folder, limits.threads),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"limits.python={python!r}: cannot be run ({error.strerror})") from None
        self._replies: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        deadline = time.monotonic() + limits.start_seconds
        too_long = f"not ready after {limits.start_seconds:g} s"
        try:
            self.versions = self._reply(deadline, too_long)
            self._reply(deadline, too_long)
        except BaseException as error:
            if isinstance(error, SubmissionError):
                error.noted = self.noted
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
        request = {"challenge": challenge, "shape": samples.shape, "batch_size": batch_size,
                   "bytes": samples.nbytes}  # fmt: skip
        message = json.dumps(request).encode() + b"\n" + samples.tobytes()
        threading.Thread(target=self._send, args=(message,), daemon=True).start()
        seconds = self.limits.request_seconds + self.limits.window_seconds * len(samples)
        late = f"challenge {challenge}: no answer to {len(samples)} windows after {seconds:g} s"
        reply = self._reply(time.monotonic() + seconds, late)
        return Answers(np.array(reply["values"], dtype=np.float64), reply["wrong_shapes"])

    def close(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._printed):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone; the reply says so
            self._process.stdin.write(message)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:  # type: ignore[union-attr]
                self._replies.put(line)
        self._replies.put(b"")

    def _reply(self, deadline: float, too_late: str) -> dict[str, Any]:
        while True:
            try:
                line = self._replies.get(timeout=SECONDS_BETWEEN_LOOKS)
                break
            except queue.Empty:
                self._check_memory(_memory_in_use(self._process.pid))
                if time.monotonic() > deadline:
                    raise SubmissionError("time", too_late) from None
        if not line:
            raise SubmissionError("ended", f"its process ended by itself{self._last_words()}")
        reply = json.loads(line)
        self.noted = reply["noted"]
        if "error" in reply:
            raise SubmissionError("error", reply["error"])
        self._check_memory(reply["peak_megabytes"])
        return reply

    def _check_memory(self, megabytes: float | None) -> None:
        self.peak_megabytes = max(self.peak_megabytes, megabytes or 0.0)
        if self.peak_megabytes > self.limits.memory_megabytes:
            raise SubmissionError(
                "memory",
                f"{self.peak_megabytes:,.0f} MB in use; at most "
                f"{self.limits.memory_megabytes:,.0f} MB are allowed",
            )

    def _last_words(self) -> str:
        status = self._exit_status()
        self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(self._printed.tell() - MOST_PRINTED, 0))
        lines = self._printed.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" with status {status}" + (f": {last[:200]}" if last else "")

    def _exit_status(self) -> int | None:
        """Wait for the end, but leave the process's number taken until its group is killed."""
        deadline = time.monotonic() + SECONDS_TO_END
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while time.monotonic() < deadline:
            ended = os.waitid(os.P_PID, self._process.pid, options)
            if ended is not None:
                return ended.si_status
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return None


@contextlib.contextmanager
def running(
    submission: Submission, limits: LimitParams, forbids: bool
) -> Iterator[RunningSubmission]:
    """Unpack a submission into an empty folder and run it there; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        place = Path(folder).resolve()
        submission.unpack(place)
        process = RunningSubmission(place, limits, forbids)
        try:
            yield process
        finally:
            process.close()


def _environment(folder: Path, threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    here = {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": str(threads)}
    return {**kept, **here}


def _memory_in_use(process: int) -> float | None:
    """Return the resident memory of a process in MB; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
