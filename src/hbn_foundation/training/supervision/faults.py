"""Faults to inject, to test the supervision: none unless a parameter asks for one.

`hang@12` hangs at the twelfth step on any device but the CPU, each time that step is reached;
`hang@12*1` does so once, on any device. With a fault and without an accelerator the CPU stands in
for a GPU, as the device `simulated`.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import time
from dataclasses import dataclass

from hbn_foundation.errors import UserError

OOM_EVALUATION = "oom_evaluation"
FOREVER = 10**9  # seconds

KINDS = {
    "hang": "never returns, and lets other threads run",
    "hang_gil": "never returns, and lets no other thread run",
    "stubborn": "hangs and ignores every signal that can be ignored",
    "halt": "halted (SIGSTOP), until something continues it",
    "crash": "a segmentation fault",
    "kill": "killed from outside",
    "exit": "ends with status 0 and no result",
    "error": "a Python exception",
    "cuda": "a CUDA error, raised as an exception",
    "oom": "out of memory, until the micro-batch is at most a quarter of the batch",
    "oom_evaluation": "out of memory in a validation, until its batch is at most a quarter",
    "nan": "a loss that is not a number",
}


SENT = {"halt": signal.SIGSTOP, "kill": signal.SIGKILL}

RAISED = {
    "error": "an error",
    "cuda": "CUDA error: an illegal memory access was encountered",
    "oom": "out of memory",
    OOM_EVALUATION: "out of memory",
}


class InjectedError(RuntimeError):
    """The exception of the faults that raise one."""


@dataclass(frozen=True)
class Fault:
    """A fault to inject."""

    kind: str  # one of `KINDS`
    step: int  # optimizer step, from 1, before which it is injected
    times: int | None = None  # how often in a run; None for each time, but not on the CPU

    @classmethod
    def parse(cls, text: str | None) -> Fault | None:
        """Read `kind@step` or `kind@step*times`; nothing gives None.

        Raises
        ------
        UserError
            When the text is neither.
        """
        if not text:
            return None
        match = re.fullmatch(r"(\w+)@(\d+)(?:\*(\d+))?", text)
        if match is None or match[1] not in KINDS or int(match[2]) < 1:
            raise UserError(
                f"fault: found {text!r}; expected kind@step or kind@step*times with a step from 1 "
                f"and a kind of {', '.join(KINDS)}"
            )
        return cls(match[1], int(match[2]), int(match[3]) if match[3] else None)

    def due(self, step: int, device: str, injected: int) -> bool:
        """Say whether it is due before a step, having been injected so many times."""
        if self.times is not None:
            return step >= self.step and injected < self.times
        if self.kind in ("oom", OOM_EVALUATION):
            return step >= self.step
        return step == self.step and device != "cpu"

    def inject(self, micro_share: float = 1.0) -> None:
        """Cause the fault; `micro_share` is the windows at once as a share of the whole batch.

        The fault `nan` is left to the training step.
        """
        if self.kind == "stubborn":
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
        if self.kind in ("hang", "stubborn"):
            time.sleep(FOREVER)
        elif self.kind == "hang_gil":
            ctypes.PyDLL(None).sleep(FOREVER)  # unlike CDLL, PyDLL keeps the lock
        elif self.kind == "crash":
            ctypes.string_at(0)
        elif self.kind in SENT:
            os.kill(os.getpid(), SENT[self.kind])
        elif self.kind == "exit":
            os._exit(0)
        elif self.kind in ("error", "cuda") or (self.kind in RAISED and micro_share > 0.25):
            raise InjectedError(f"{RAISED[self.kind]} (a fault was injected here)")
