"""Choose the device to train on, without touching it from this process.

A GPU that hangs cannot be interrupted from inside the process that called it, and a process that
has initialised CUDA must not be forked. So the probe runs in a supervised child with a time limit,
and this module imports no torch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.params import Params
from hbn_foundation.progress import say
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import DeviceParams, ObjectiveParams, TrainerParams
from hbn_foundation.training.supervision.link import Orders
from hbn_foundation.training.supervision.process import (
    FAILURE,
    RESULT,
    Child,
    Process,
    start_interpreter,
)

TARGET = "hbn_foundation.training.device_probe:run"
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0
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
    hardware: DeviceParams,
    job: ProbeJob,
    fault: str | None = None,
    start_child: Callable[[Path], Process] = start_interpreter,
) -> dict[str, Any]:
    """Probe the device asked for, and fall back to the CPU where that is allowed.

    Parameters
    ----------
    hardware
        The device, the limit of the probe, and whether the CPU may replace a device asked for.
    job
        What the probe tries.
    fault
        A fault that training shall inject. Without a GPU the device is then `simulated`: the CPU,
        from which training can fall back to the CPU.
    start_child
        Starts the probe's process, as for `Child`.

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
    requested, found = hardware.device, dict[str, Any]()
    chosen, reason = "cpu", "asked for"
    if requested != "cpu":
        found, failure = _probe(hardware, job, start_child)
        for warning in found.get("warnings", []):
            say(f"device: {warning}")
        reason = failure or str(found.get("reason", "the probe gave no reason"))
        if failure is None and found.get("usable"):
            chosen = found["device"]
        elif requested == "auto" and fault is not None:
            chosen, reason = "simulated", SIMULATED
        elif requested != "auto" and not hardware.allow_fallback:
            raise UserError(
                f"device: {requested} was asked for but cannot be used ({reason}); "
                "choose auto or cpu, or set allow_fallback"
            )
        say(f"device: {chosen} ({reason}, probed in {found['seconds']['total']:.0f} s)")
    return {
        "requested": requested,
        "chosen": chosen,
        "reason": reason,
        "name": None,
        **{name: found[name] for name in DETAILS if name in found},
        "warnings": found.get("warnings", []),
        "probe_seconds": found.get("seconds", {"total": 0.0}),
        "versions": {"python": sys.version.split()[0], **found.get("versions", {})},
    }


def _probe(
    hardware: DeviceParams, job: ProbeJob, start_child: Callable[[Path], Process]
) -> tuple[dict[str, Any], str | None]:
    """Run the probe; return what it found, and why it failed where it did."""
    started, problem = time.monotonic(), None
    found: dict[str, Any] = {}
    # one that hangs in the driver may keep a file open
    with TemporaryDirectory(prefix="device-probe-", ignore_cleanup_errors=True) as name:
        folder, until = Path(name), started + hardware.timeout_seconds
        arguments = {"requested": hardware.device, "job": job, "folder": folder}
        try:
            child = Child(folder, TARGET, arguments, Orders(hardware.device, until), start_child)
        except OSError as error:
            problem = f"the probe could not be started: {error}"
        else:
            try:
                while not child.ended and time.monotonic() < until:
                    time.sleep(POLL_SECONDS)
                answered = child.ended
            finally:
                ended = child.end(0.0, KILL_SECONDS)
            if (folder / RESULT).is_file():
                found = dict(json.loads((folder / RESULT).read_text()))
            if not answered:
                problem = f"the probe did not answer within {hardware.timeout_seconds:g} s"
            elif (folder / FAILURE).is_file():
                problem = json.loads((folder / FAILURE).read_text())["message"]
                problem = f"the probe failed: {one_line(problem)}"
            elif child.process.returncode or "usable" not in found:
                problem = f"the probe failed: {child.how_it_ended()}"
            if not ended:
                say(f"device: the probe (process {child.process.pid}) cannot be ended")
    phase = found.pop("phase", None)
    if problem is not None and phase:
        problem += f"; it had begun to {phase}"
    total = round(time.monotonic() - started, 2)
    found["seconds"] = {"total": total, **found.get("seconds", {})}
    return found, problem
