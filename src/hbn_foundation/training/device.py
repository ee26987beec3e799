"""Choose the device to train on, without touching it from this process.

A GPU that hangs cannot be interrupted from inside the process that called it, and a process that
has initialised CUDA must not be forked. So the probe runs in a fresh interpreter with a time limit,
and this module imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Literal

from pydantic import Field

from hbn_foundation.errors import UserError
from hbn_foundation.params import Params
from hbn_foundation.progress import say
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams

Device = Literal["auto", "cuda", "mps", "cpu", "simulated"]
KILL_SECONDS = 5.0
#: A probe whose parent is gone ends itself this long after its limit.
GRACE_SECONDS = 10.0
SIMULATED = "fault injection: the CPU stands in for a GPU"
#: What the probe finds and the plan keeps.
DETAILS = ("name", "precision", "loss", "errors", "memory")


class ProbeJob(Params):
    """What the probe tries: the configured model at the configured batch shape."""

    encoder: EncoderParams = Field(EncoderParams(), description="The encoder.")
    objective: ObjectiveParams = Field(ObjectiveParams(), description="What it is trained to do.")
    trainer: TrainerParams = Field(TrainerParams(), description="Batch size, precision, optimizer.")
    n_channels: int = Field(129, description="Channels of a window.", ge=1)
    sfreq: float = Field(100.0, description="Sampling rate in Hz.", gt=0)
    n_samples: int = Field(200, description="Length of a window.", ge=1)


def choose_device(
    requested: Device = "auto",
    timeout_seconds: float = 60.0,
    allow_fallback: bool = False,
    interpreter: tuple[str, ...] = (sys.executable,),
    *,
    job: ProbeJob | None = None,
    fault: str | None = None,
) -> dict[str, Any]:
    """Probe the device asked for, and fall back to the CPU where that is allowed.

    Parameters
    ----------
    requested
        `auto` takes the best device that works, else the CPU. `simulated` is the CPU, which stands
        in for a GPU when a fault is injected.
    timeout_seconds
        Limit of the probe, the start of Python and torch included.
    allow_fallback
        Whether the CPU may replace a device asked for by name.
    interpreter
        Command that starts Python.
    job
        What the probe tries; the default model where not given.
    fault
        A fault that training shall inject. Without a GPU the device is then `simulated`, from
        which training can fall back to the CPU.

    Returns
    -------
    dict
        `requested`, `chosen` (`cpu`, `cuda`, `mps`, `simulated`), `reason` (one line), `name` of
        the device, `probe_seconds` of each part, `versions`, `warnings`, and where the probe came
        so far `precision`, `loss`, `errors` against the CPU, `memory` in bytes. All of it is JSON.

    Raises
    ------
    UserError
        When a device asked for by name does not work and no fallback is allowed.
    """
    found: dict[str, Any] = {}
    seconds = 0.0

    def plan(chosen: str, reason: str) -> dict[str, Any]:
        return {
            "requested": requested,
            "chosen": chosen,
            "reason": reason,
            "name": None,
            **{name: found[name] for name in DETAILS if name in found},
            "warnings": found.get("warnings", []),
            "probe_seconds": {"total": seconds, **found.get("seconds", {})},
            "versions": {"python": sys.version.split()[0], **found.get("versions", {})},
        }

    if requested == "cpu":
        return plan("cpu", "asked for")
    if requested == "simulated":
        if fault is None:
            raise UserError("device: simulated goes with a fault to inject, and none is given")
        return plan("simulated", SIMULATED)
    started = time.monotonic()
    found, failure = _probe(requested, job or ProbeJob(), timeout_seconds, interpreter)
    seconds = round(time.monotonic() - started, 2)
    for warning in found.get("warnings", []):
        say(f"device: {warning}")
    reason = failure or str(found.get("reason", "the probe gave no reason"))
    if failure is None and found.get("usable"):
        say(f"device: {found['device']} ({reason}, probed in {seconds:.0f} s)")
        return plan(found["device"], reason)
    if requested == "auto" and fault is not None:
        say(f"device: simulated ({SIMULATED})")
        return plan("simulated", SIMULATED)
    if requested != "auto" and not allow_fallback:
        raise UserError(
            f"device: {requested} was asked for but cannot be used ({reason}); "
            "choose auto or cpu, or set allow_fallback"
        )
    say(f"device: cpu ({reason})")
    return plan("cpu", reason)


def _probe(
    requested: str, job: ProbeJob, timeout_seconds: float, interpreter: tuple[str, ...]
) -> tuple[dict[str, Any], str | None]:
    """Run the probe; return what it found, and why it failed where it did."""
    order = {
        "requested": requested,
        "job": job.model_dump(mode="json"),
        "seconds": timeout_seconds + GRACE_SECONDS,
    }
    try:
        process = subprocess.Popen(
            [*interpreter, "-m", "hbn_foundation.training.device_probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return {}, f"the probe could not be started: {error}"
    output, errors, problem = "", "", None
    try:
        output, errors = process.communicate(json.dumps(order), timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        output = _kill(process)
        problem = f"the probe did not answer within {timeout_seconds:g} s"
    except BaseException:
        _kill(process)
        raise
    found = _read(output)
    phase = found.pop("phase", None)
    if problem is None and process.returncode < 0:
        problem = f"the probe was ended by {signal.Signals(-process.returncode).name}"
    if problem is None and (process.returncode or "usable" not in found):
        last = (errors.strip().splitlines() or ["no output"])[-1]
        problem = f"the probe failed: {last[:200]}"
    if problem is not None and phase:
        problem += f"; it had begun to {phase}"
    return found, problem


def _read(output: str) -> dict[str, Any]:
    """Gather the last value of each key in the probe's lines of JSON; skip all other output."""
    found: dict[str, Any] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            found |= answer if isinstance(answer, dict) else {}
    return found


def _kill(process: subprocess.Popen[str]) -> str:
    """End the probe and what it started; return what it had printed.

    One that cannot be ended, because it hangs in the driver, is left behind.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=KILL_SECONDS)[0]
    except subprocess.TimeoutExpired as expired:
        say(f"device: the probe (process {process.pid}) cannot be ended and is left behind")
        output = expired.stdout or b""
        return output if isinstance(output, str) else output.decode(errors="replace")
