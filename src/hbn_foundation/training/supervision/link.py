"""The child's link to its supervisor: beats out, orders in.

Training code is given a `Link` and calls it; `Link()` alone is for a training without supervisor.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hbn_foundation.training.supervision.faults import Fault
from hbn_foundation.training.supervision.heartbeat import FILE, STEP, Beat, boot_id, encoded

TIME_LIMIT, STOPPED = "time_limit", "stopped"
TIME_IS_UP = "time limit"  # first words of the reason when a training ended by its time limit
STEPS_IN_MEDIAN = 101


@dataclass(frozen=True)
class Orders:
    """What the supervisor sends a child beside its work."""

    device: str  # where to train; overrules the device plan
    deadline: float  # end of `max_training_time`, of the monotonic clock, which both share
    micro_batch: int | None = None  # windows at once in training; None for a whole batch
    evaluation_batch: int | None = None  # and in an evaluation
    resume_from: str | None = None  # folder of the epoch checkpoint to resume from
    fault: Fault | None = None  # to inject
    faults_injected: int = 0  # how often it was injected before


class Link:
    """The training code's side of the supervision.

    Beats are written to `folder`, if there is one. `show`, where it is set, is called with each:
    by a training that draws its progress itself.
    """

    def __init__(self, folder: Path | None = None, orders: Orders | None = None) -> None:
        self.orders = orders
        self.show: Callable[[Beat], None] | None = None
        self._beat = Beat(pid=os.getpid(), boot=boot_id())
        self._file: int | None = None
        if folder is not None:
            self._file = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT, 0o644)
        self._deadline = orders.deadline if orders is not None else None
        self._steps: deque[float] = deque(maxlen=STEPS_IN_MEDIAN)
        self._first_steps: deque[tuple[int, int, float]] = deque(maxlen=2)  # of the last two epochs
        self._stop_asked = False

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as the request to stop at the end of a step."""

        def note(*_: Any) -> None:
            self._stop_asked = True

        signal.signal(signal.SIGTERM, note)
        signal.signal(signal.SIGINT, note)

    def limit(self, seconds: float) -> None:
        """Set the time left, unless the supervisor has set it."""
        if self._deadline is None:
            self._deadline = time.monotonic() + seconds

    def beat(self, section: str, **news: Any) -> None:
        """Write a beat: what was under way is done, and `section` begins.

        What is not given stays as it was.
        """
        count, now = self._beat.count + 1, time.monotonic()
        self._beat = replace(self._beat, **news, section=section, count=count, monotonic=now)
        if self._file is not None:
            os.pwrite(self._file, encoded(self._beat), 0)
        if self.show is not None:
            self.show(self._beat)

    def step_done(self, seconds: float, step: int, epoch: int, **news: Any) -> None:
        """Write the beat of a step that is done and took so many seconds."""
        self._steps.append(seconds)
        median = statistics.median(self._steps)
        now = time.monotonic()
        if not self._first_steps or self._first_steps[-1][0] != epoch:
            self._first_steps.append((epoch, step, now))
        # validations and checkpoints count; the very first step, which may be slow, does not
        _, first, began = self._first_steps[0]
        pace = (now - began) / (step - first) if step > first else median
        left = max(self._beat.steps - step, 0) * pace
        self.beat(STEP, median_step=median, seconds_left=left, step=step, epoch=epoch, **news)

    @property
    def asked_to_stop(self) -> str | None:
        """`time_limit` or `stopped`, when the training is to end after this step."""
        if self._stop_asked:
            return STOPPED
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return TIME_LIMIT
        return None

    def fault_due(self, step: int) -> Fault | None:
        """Give the fault to inject, when it is due before step `step` (from 1)."""
        orders = self.orders
        if orders is None or orders.fault is None:
            return None
        due = orders.fault.due(step, orders.device, orders.faults_injected)
        return orders.fault if due else None
