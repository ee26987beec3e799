"""What the device probe runs in its own interpreter: look for a device and try it.

Run as `python -m hbn_foundation.training.device_probe`; the order is JSON on standard input:
`requested`, `job` and `seconds`, after which the process ends itself. It answers in lines of JSON:
what is known so far and the `phase` that begins, and last of all `usable` and the `reason`.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.supervision.incidents import OUT_OF_MEMORY, classify

GIB = 2**30
WANTED = {"auto": "GPU", "cuda": "CUDA or ROCm GPU", "mps": "Apple GPU"}
MOST_WARNINGS = 5
MOST_CHARACTERS = 200


class UnusableError(Exception):
    """The device cannot be used; the message says why in one line."""


class Notes:
    """What is found, part by part, with the seconds each part took.

    Parameters
    ----------
    tell
        Called with what is known and the phase, when a part begins.
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
            raise UnusableError(self._blame(phase, error)) from error
        finally:
            self.found["seconds"][name] = round(time.monotonic() - started, 3)

    def _blame(self, phase: str, error: Exception) -> str:
        text = one_line(str(error) or type(error).__name__)
        if classify(error) == OUT_OF_MEMORY:
            free = self.found.get("memory", {}).get("free")
            known = "" if free is None else f"; {free / GIB:.1f} GiB were free"
            return f"too little memory to {phase}{known} ({text})"
        return f"it failed to {phase}: {text}"


def probe(
    requested: str, job: ProbeJob, tell: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Look for a device, take a training step on it, compare it with the CPU.

    Parameters
    ----------
    requested
        `auto`, `cuda` or `mps`; `cpu` tries the CPU in the part of a device.
    job
        The model and the shape of its batches.
    tell
        Called with what is known when a part begins.

    Returns
    -------
    dict
        `usable`, `reason`, `device`, `name`, `architecture`, `precision`, `loss`, `errors`,
        `memory`, `versions`, `warnings`, `seconds`; the later ones only where it came so far.
    """
    notes = Notes(tell)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            notes.found |= {"usable": True, "reason": _try(requested, job, notes)}
        except UnusableError as error:
            notes.found |= {"usable": False, "reason": str(error)}
    for text in worth_telling(caught):
        if text not in notes.found["warnings"]:
            notes.found["warnings"].append(text)
    if notes.found.get("device") is None and notes.found["warnings"]:
        notes.found["reason"] += f" ({notes.found['warnings'][0]})"
    return notes.found


def _try(requested: str, job: ProbeJob, notes: Notes) -> str:
    """Go through all parts; return the reason to use the device."""
    found = notes.found
    with notes.part("import", "import torch"):
        import torch

        found["versions"] |= versions()
    with notes.part("query", "look for a device"):
        device = find(requested)
        if device is None:
            wanted = WANTED.get(requested, requested)
            built = torch.version.cuda or torch.version.hip or torch.backends.mps.is_built()
            why = "" if built else "; it was built for the CPU alone"
            raise UnusableError(f"torch {torch.__version__} finds no {wanted}{why}")
        found |= {"device": device, "name": name_of(device), "memory": memory_of(device)}
    with notes.part("architecture", "check the architecture"):
        check_architecture(device, found)
    with notes.part("model", "make the model on the CPU"):
        from hbn_foundation.training import device_trial
        from hbn_foundation.training.precision import choose_precision

        found["precision"] = choose_precision(job.trainer.precision, device)
        trial = device_trial.make_trial(job, found["precision"])
    size = job.trainer.batch_size
    with notes.part("compare", f"compare {size} windows with the CPU"):
        check_errors(device_trial.compare(trial, device), device, found)
    with notes.part("step", f"take a training step of {size} windows"):
        loss, norm = device_trial.take_step(trial, job, device)
        found["memory"] |= peak_of(device)
        found["loss"] = loss if math.isfinite(loss) else None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UnusableError(
                f"a training step on {found['name']} gave the loss {loss} and the gradient {norm}"
            )
    worst = max(found["errors"].values())
    return f"{found['name']} took a training step and agrees with the CPU to {worst:.0e}"


def find(requested: str) -> str | None:
    """Take the first device of the kind asked for that torch sees."""
    import torch

    if requested == "cpu":
        return "cpu"
    if requested in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    if requested in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return None


def name_of(device: str) -> str:
    """Name of the card, or of the kind of device."""
    import torch

    return torch.cuda.get_device_name(0) if device == "cuda" else device


def check_architecture(device: str, found: dict[str, Any]) -> None:
    """Note the card's architecture; refuse one that torch has no code for."""
    import torch

    from hbn_foundation.training.device_architecture import check_amd, check_nvidia

    if device != "cuda":
        return
    targets = torch.cuda.get_arch_list()
    if torch.version.hip:
        card = torch.cuda.get_device_properties(0).gcnArchName
        found["architecture"] = card
        problem, warned = check_amd(card, targets, os.environ)
        found["warnings"] += warned
    else:
        capability = torch.cuda.get_device_capability(0)
        found["architecture"] = f"sm_{capability[0]}{capability[1]}"
        problem = check_nvidia(capability, targets)
    if problem:
        raise UnusableError(f"{found['name']}: {problem}")


def check_errors(errors: dict[str, float], device: str, found: dict[str, Any]) -> None:
    """Note the errors against the CPU; refuse a device whose error is more than rounding."""
    from hbn_foundation.training.device_trial import tolerance

    found["errors"] = {
        name: error if math.isfinite(error) else None for name, error in errors.items()
    }
    for name, error in errors.items():
        allowed = tolerance(name, device)
        if not error <= allowed:
            raise UnusableError(
                f"wrong result: {name} of {found['name']} differ from the CPU's by {error:.2g} "
                f"of their norm, at most {allowed:g} is rounding"
            )


def memory_of(device: str) -> dict[str, int]:
    """Bytes `free` and in `total`, where the device tells."""
    import torch

    if device == "cuda":
        free, total = torch.cuda.mem_get_info(0)
        return {"free": free, "total": total}
    if device == "mps":
        total = torch.mps.recommended_max_memory()
        return {"free": total - torch.mps.driver_allocated_memory(), "total": total}
    return {}


def peak_of(device: str) -> dict[str, int]:
    """Most bytes that the trial reserved, where the device tells."""
    import torch

    if device == "cuda":
        return {"peak": torch.cuda.max_memory_reserved(0)}
    return {}


def versions() -> dict[str, str | None]:
    """Versions of torch, of what it was built for, and of the driver where a file says it."""
    import torch

    found: dict[str, str | None] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
    }
    nvidia, amd = Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version")
    if nvidia.is_file():
        words = nvidia.read_text().split("Kernel Module")[-1].split()
        found["driver"] = next((word for word in words if word[0].isdigit()), None)
    elif amd.is_file():
        found["driver"] = amd.read_text().strip()
    return found


def worth_telling(caught: list[warnings.WarningMessage]) -> list[str]:
    """One line for each of the first warnings that are not about the future of some library."""
    texts: list[str] = []
    for warning in caught:
        text = one_line(str(warning.message))
        future = issubclass(
            warning.category, DeprecationWarning | PendingDeprecationWarning | FutureWarning
        )
        if not future and text not in texts:
            texts.append(text)
    return texts[:MOST_WARNINGS]


def one_line(text: str) -> str:
    """Fold a message into one line, and cut a long one."""
    return " ".join(text.split())[:MOST_CHARACTERS]


def main() -> None:
    """Read the order, answer on the standard output alone, whatever libraries print there."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    order = json.load(sys.stdin)
    if hasattr(signal, "setitimer"):  # the kernel ends it, even while it hangs holding the GIL
        signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    job = ProbeJob.model_validate(order["job"])
    tell({**probe(order["requested"], job, tell), "phase": "end"})


if __name__ == "__main__":
    main()
