"""Choose the device to train on, without touching it from this process.

A GPU that hangs cannot be interrupted from inside the process that called it, and a process that
has initialised CUDA must not be forked. So the probe runs in a fresh interpreter with a time limit,
and this module imports no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Literal

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say

Device = Literal["auto", "cuda", "mps", "cpu"]
SECONDS_TO_DIE = 5.0


def choose_device(
    requested: Device = "auto",
    timeout_seconds: float = 60.0,
    allow_fallback: bool = False,
    interpreter: tuple[str, ...] = (sys.executable,),
) -> dict[str, Any]:
    """Probe the device asked for, and fall back to the CPU where that is allowed.

    Parameters
    ----------
    requested
        `auto` takes the best device that works, else the CPU.
    timeout_seconds
        Limit of the probe, the start of Python and torch included.
    allow_fallback
        Whether the CPU may stand in for a device asked for by name.
    interpreter
        Command that starts Python.

    Returns
    -------
    dict
        `requested`, `chosen` (`cpu`, `cuda`, `mps`), `reason` (one line), `probe_seconds`,
        `versions`, and `name` of the device where known. All of it is JSON.

    Raises
    ------
    UserError
        When a device asked for by name does not work and no fallback is allowed.
    """
    if requested == "cpu":
        return _plan(requested, "cpu", "asked for", 0.0, {})
    started = time.monotonic()
    found, failure = _probe(requested, timeout_seconds, interpreter)
    seconds = round(time.monotonic() - started, 2)
    if failure is None and found.get("usable"):
        plan = _plan(requested, found["device"], found["reason"], seconds, found)
        say(f"device: {plan['chosen']} ({plan['reason']}, probed in {seconds:.0f} s)")
        return plan
    reason = failure or found.get("reason", "the probe gave no reason")
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
        "name": found.get("name"),
        "probe_seconds": {"total": seconds, **found.get("seconds", {})},
        "versions": {"python": sys.version.split()[0], **found.get("versions", {})},
    }


def _probe(
    requested: str, timeout_seconds: float, interpreter: tuple[str, ...]
) -> tuple[dict[str, Any], str | None]:
    """Run the probe; return what it found, and why it failed where it did."""
    command = [*interpreter, "-m", "hbn_foundation.training.device_probe", requested]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return {}, f"the probe did not answer within {timeout_seconds:g} s"
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return {}, f"the probe was ended by {name}"
    try:
        found = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return {}, f"the probe failed: {last[:200]}"
    return found, None


def _kill(process: subprocess.Popen[str]) -> None:
    """End the probe and what it started; one that cannot be killed is left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        process.communicate(timeout=SECONDS_TO_DIE)
    except subprocess.TimeoutExpired:
        say(f"device: the probe (process {process.pid}) cannot be ended and is left behind")
