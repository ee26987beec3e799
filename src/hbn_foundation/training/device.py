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
SECONDS_TO_DIE = 5.0
#: A probe whose parent is gone ends itself this long after its limit.
GRACE_SECONDS = 10.0
PLAYED = "fault injection: the CPU plays a GPU"
#: What the probe finds and the plan keeps.
DETAILS = ("name", "architecture", "precision", "loss", "errors", "memory")


class ProbeJob(Params):
    """What the probe shall try: the configured model at the configured batch shape."""

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
        `auto` takes the best device that works, else the CPU. `simulated` is the CPU in the part
        of a GPU; it goes with `fault`.
    timeout_seconds
        Limit of the probe, the start of Python and torch included.
    allow_fallback
        Whether the CPU may stand in for a device asked for by name.
    interpreter
        Command that starts Python.
    job
        What the probe tries; the default model where not given.
    fault
        A fault that training shall inject. Without a GPU the CPU then plays one, so that there is
        something to fall back from.

    Returns
    -------
    dict
        `requested`, `chosen` (`cpu`, `cuda`, `mps`, `simulated`), `reason` (one line), `name` of
        the device, `probe_seconds` of each part, `versions`, `warnings`, and where the probe came
        so far `architecture`, `precision`, `loss`, `errors` against the CPU, `memory` in bytes.
        All of it is JSON.

    Raises
    ------
    UserError
        When a device asked for by name does not work and no fallback is allowed.
    """
    if requested == "cpu":
        return _plan(requested, "cpu", "asked for", 0.0, {})
    if requested == "simulated":
        if fault is None:
            raise UserError("device: simulated goes with a fault to inject, and none is given")
        return _plan(requested, "simulated", PLAYED, 0.0, {})
    started = time.monotonic()
    found, failure = _probe(requested, job or ProbeJob(), timeout_seconds, interpreter)
    seconds = round(time.monotonic() - started, 2)
    for warning in found.get("warnings", []):
        say(f"device: {warning}")
    reason = failure or str(found.get("reason", "the probe gave no reason"))
    if failure is None and found.get("usable"):
        say(f"device: {found['device']} ({reason}, probed in {seconds:.0f} s)")
        return _plan(requested, found["device"], reason, seconds, found)
    if requested == "auto" and fault is not None:
        say(f"device: simulated ({PLAYED})")
        return _plan(requested, "simulated", PLAYED, seconds, found)
    if requested != "auto" and not allow_fallback:
        raise UserError(
            f"device: {requested} was asked for but cannot be used ({reason}); "
            "choose auto or cpu, or set allow_fallback"
        )
    say(f"device: cpu ({reason})")
    return _plan(requested, "cpu", reason, seconds, found)


def _plan(
    requested: str, chosen: str, reason: str, seconds: float, found: dict[str, Any]
) -> dict[str, Any]:
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
    try:
        output, errors = process.communicate(json.dumps(order), timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        found, phase = _read(_kill(process))
        return found, f"the probe did not answer within {timeout_seconds:g} s{phase}"
    except BaseException:
        _kill(process)
        raise
    found, phase = _read(output)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return found, f"the probe was ended by {name}{phase}"
    if process.returncode or "usable" not in found:
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return found, f"the probe failed: {last[:200]}{phase}"
    return found, None


def _read(output: str) -> tuple[dict[str, Any], str]:
    """Gather the probe's lines of JSON; what else is printed between them is passed over.

    Returns
    -------
    found : dict
        The last value of each key.
    phase : str
        Half a sentence on where it was when it ended; empty where unknown.
    """
    found: dict[str, Any] = {}
    for line in output.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            found |= said
    phase = found.pop("phase", None)
    return found, f"; it had begun to {phase}" if phase else ""


def _kill(process: subprocess.Popen[str]) -> str:
    """End the probe and what it started; return what it had printed.

    One that cannot be ended, because it hangs in the driver, is left behind.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=SECONDS_TO_DIE)[0]
    except subprocess.TimeoutExpired as expired:
        say(f"device: the probe (process {process.pid}) cannot be ended and is left behind")
        output = expired.stdout or b""
        return output if isinstance(output, str) else output.decode(errors="replace")
