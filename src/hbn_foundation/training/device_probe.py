"""The device probe, the work of a supervised child: find a device and try it.

Its result, while it goes on, is what is known so far and the `phase` that has begun; in the end
`usable` and the `reason`, too.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hbn_foundation.errors import one_line
from hbn_foundation.files import write_json
from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.supervision.incidents import OUT_OF_MEMORY, classify
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.process import RESULT

GIB = 2**30
KINDS = {"auto": "GPU", "cuda": "CUDA or ROCm GPU", "mps": "Apple GPU"}
MAX_WARNINGS = 5
OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


def run(requested: str, job: ProbeJob, folder: Path, link: Link) -> dict[str, Any]:
    """Probe, as the target of a child, which keeps what is known so far in its folder."""
    del link  # the parent has a limit for the whole
    return probe(requested, job, lambda found: write_json(folder / RESULT, found))


class UnusableError(Exception):
    """The device cannot be used; the message says why in one line."""


class ProbeReport:
    """What is found, part by part, with the seconds each part took.

    `tell` is called with what is known and the phase, when a part begins.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self.tell = tell
        self.found: dict[str, Any] = {"name": None, "versions": {}, "warnings": [], "seconds": {}}

    @contextmanager
    def part(self, name: str, phase: str) -> Iterator[None]:
        """Time a part; an error in it makes the device unusable."""
        self.tell({**self.found, "phase": phase})
        started = time.monotonic()
        try:
            yield
        except UnusableError:
            raise
        except Exception as error:
            text = one_line(error)
            if classify(error) != OUT_OF_MEMORY:
                raise UnusableError(f"it failed to {phase}: {text}") from error
            free = self.found.get("memory", {}).get("free")
            known = "" if free is None else f"; {free / GIB:.1f} GiB were free"
            raise UnusableError(f"too little memory to {phase}{known} ({text})") from error
        finally:
            self.found["seconds"][name] = round(time.monotonic() - started, 3)


def probe(
    requested: str, job: ProbeJob, tell: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Look for a device, take a training step on it, compare it with the CPU.

    Parameters
    ----------
    requested
        `auto`, `cuda` or `mps`; `cpu` tries the CPU as if it were a device.
    job
        The model and the shape of its batches.
    tell
        Called with what is known when a part begins.

    Returns
    -------
    dict
        `usable`, `reason`, `device`, `name`, `precision`, `loss`, `errors`, `memory`, `versions`,
        `warnings`, `seconds`; the later ones only where it came so far.
    """
    report = ProbeReport(tell)
    found = report.found
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for future in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", future)
        try:
            found |= {"usable": True, "reason": _try(requested, job, report)}
        except UnusableError as error:
            found |= {"usable": False, "reason": str(error)}
    texts = [*found["warnings"], *(one_line(str(warning.message)) for warning in caught)]
    found["warnings"] = list(dict.fromkeys(texts))[:MAX_WARNINGS]
    if "device" not in found and texts:
        found["reason"] += f" ({texts[0]})"
    return found


def _try(requested: str, job: ProbeJob, report: ProbeReport) -> str:
    """Go through all parts; return the reason to use the device."""
    found = report.found
    with report.part("import", "import torch"):
        import torch

        version = torch.version
        found["versions"] |= {
            "torch": torch.__version__,
            "cuda": version.cuda,
            "hip": version.hip,
        }
    with report.part("query", "look for a device"):
        device = find(requested)
        if device is None:
            wanted = KINDS.get(requested, requested)
            built = version.cuda or version.hip or torch.backends.mps.is_built()
            why = "" if built else "; it was built for the CPU alone"
            raise UnusableError(f"torch {torch.__version__} finds no {wanted}{why}")
        found |= {"device": device, "name": device, "memory": memory_of(device)}
        if device == "cuda":
            found["name"] = torch.cuda.get_device_name(0)
        if version.hip and OVERRIDE in os.environ:
            found["warnings"].append(
                f"{OVERRIDE}={os.environ[OVERRIDE]} makes the card pass for another; "
                "results may be wrong, and the GPU may hang"
            )
    with report.part("model", "make the model on the CPU"):
        from hbn_foundation.training import device_trial
        from hbn_foundation.training.precision import choose_precision

        found["precision"] = choose_precision(job.trainer.precision, device)
        trial = device_trial.make_trial(job, found["precision"])
    size = job.trainer.batch_size
    with report.part("compare", f"compare {size} windows with the CPU"):
        errors = device_trial.compare(trial, device)
        found["errors"] = {name: finite(error) for name, error in errors.items()}
        for name, error in errors.items():
            allowed = device_trial.tolerance(name, device)
            if not error <= allowed:
                raise UnusableError(
                    f"wrong result: {name} of {found['name']} differ from the CPU's by "
                    f"{error:.2g} of their norm, at most {allowed:g} is rounding"
                )
    with report.part("step", f"take a training step of {size} windows"):
        loss, norm = device_trial.take_step(trial, job, device)
        if device == "cuda":
            found["memory"]["peak"] = torch.cuda.max_memory_reserved(0)
        found["loss"] = finite(loss)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UnusableError(
                f"a training step on {found['name']} gave the loss {loss} and the gradient {norm}"
            )
    worst = max(errors.values())
    return f"{found['name']} took a training step and agrees with the CPU to {worst:.0e}"


def find(requested: str) -> str | None:
    """Take the first device of the kind asked for that torch sees."""
    import torch

    available = {
        "cpu": requested == "cpu",
        "cuda": requested in ("auto", "cuda") and torch.cuda.is_available(),
        "mps": requested in ("auto", "mps") and torch.backends.mps.is_available(),
    }
    return next((device for device, usable in available.items() if usable), None)


def memory_of(device: str) -> dict[str, int]:
    """Bytes `free` and in `total`, where the device tells."""
    import torch

    if device != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(0)
    return {"free": free, "total": total}


def finite(value: float) -> float | None:
    """Give a finite value, else None, as JSON knows no other numbers."""
    return value if math.isfinite(value) else None
