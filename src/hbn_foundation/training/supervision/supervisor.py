"""The parent's side: start a child, watch its beats, end it when it is silent, start the next.

Imports neither torch nor Lightning, so that it runs on when they hang.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, write_json
from hbn_foundation.progress import say
from hbn_foundation.training.supervision import policy
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.faults import Fault
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat
from hbn_foundation.training.supervision.incidents import ERROR, USER, Incident, record
from hbn_foundation.training.supervision.link import STOPPED, TIME_IS_UP, TIME_LIMIT, Orders
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.process import (
    EXIT_FULL_DISK,
    FAILURE,
    RESULT,
    Child,
    Process,
    start_interpreter,
)
from hbn_foundation.training.supervision.run_folder import RunFolder

POLL_SECONDS = 0.1
FINISHED = "finished"
KEPT = "stopped; what is saved is kept"
MORE_TIME = "stopped; the same command with more max_training_time resumes it"
PAUSE = 5.0  # a longer time between two looks is a pause of this process

#: Devices with a child that could not be killed; this process starts no other training there.
ABANDONED: set[str] = set()


class TrainingStopped(UserError):  # noqa: N818 - says what happened
    """The training was stopped by the signal `signal_number`."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[Any, ...]:  # from a worker
        return type(self), (str(self), self.signal_number)


class StopRequest(BaseException):
    """Raised by a signal handler; not caught by `except Exception`."""


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[dict[signal.Signals, Any]]:
    """Handle SIGINT and SIGTERM inside the block; elsewhere than in the main thread, do nothing.

    Gives the handlers of before.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Raise `TrainingStopped` on SIGINT or SIGTERM inside the block; a second one ends at once.

    A supervisor inside the block, in this process, takes them itself.
    """

    def stop(number: int, _: Any) -> None:
        for each in before:  # the next signal does not wait until all is closed
            signal.signal(each, lambda again, _: os._exit(128 + again))
        raise StopRequest(number)

    try:
        with handled(stop) as before:
            yield
    except StopRequest as stopped:
        sent = signal.Signals(stopped.args[0])
        raise TrainingStopped(
            f"Stopped by {sent.name}; what is done is kept; the same command resumes", sent
        ) from None


@dataclass
class Ending:
    """How a child ended; `kind` is `finished`, or that of an incident."""

    kind: str
    what: str
    stack: str = ""
    abandoned: bool = False


@dataclass(frozen=True)
class Work:
    """What is supervised."""

    target: str  # what the child calls, as `module:function`
    arguments: dict[str, Any]  # its keyword arguments; it is also given `link`
    device: str  # where to begin
    batch_size: int  # windows per step
    seconds: float  # `max_training_time`, over all restarts
    fault: Fault | None = None  # to inject
    name: str = ""  # comes before the line of an incident, where several trainings run at once


class Supervisor:
    """Runs a training to its end, with restarts after incidents.

    Parameters
    ----------
    run
        Its folder: heartbeat, incidents, checkpoints.
    work
        What the child does.
    limits
        How long each section may be silent.
    start_child, display
        How the process of a child is started, given the folder; how its progress is shown.
    """

    def __init__(
        self,
        run: RunFolder,
        work: Work,
        limits: SupervisionParams,
        start_child: Callable[[Path], Process] = start_interpreter,
        display: Callable[[], Display] = Display,
    ) -> None:
        self.run_folder, self.folder = run, run.path
        self.work, self.limits = work, limits
        self.start_child = start_child
        self.make_display = display
        device = work.device
        if device in ABANDONED:
            say(f"{device} is not used again in this process: a child on it could not be killed")
            device = policy.CPU
        self.restarts = policy.Restarts(device, work.batch_size, limits.max_restarts)
        self.started = time.monotonic()
        self.deadline = self.started + work.seconds
        self.incidents = 0
        self.beat = Beat(device=device)
        self.signals: list[signal.Signals] = []  # SIGINT and SIGTERM that came

    def run(self) -> dict[str, Any]:
        """Supervise to the end.

        Returns
        -------
        dict
            What the child's function returned; empty when the time was up before it could.

        Raises
        ------
        UserError
            The child's own, or that nothing more can be tried.
        TrainingStopped
            After SIGINT or SIGTERM.
        """
        write_json(self.folder / LIMITS, self.limits.model_dump(mode="json"))

        def note(number: int, _: Any) -> None:
            self.signals.append(signal.Signals(number))

        with handled(note), self.make_display() as display:
            while True:
                resume_from, epochs = self.run_folder.newest()
                ending = self._attempt(resume_from, display)
                result = {}
                if ending.kind == FINISHED:
                    result = dict(json.loads((self.folder / RESULT).read_text()))
                stopped = str(result.get("stopped"))
                if self.signals or stopped == STOPPED:
                    raise self._stopped(ending)
                if ending.kind == FINISHED:
                    if stopped.startswith(TIME_IS_UP):
                        ending.what = stopped
                        self._record(ending, TIME_LIMIT, MORE_TIME)
                    return result
                if time.monotonic() > self.deadline and ending.kind not in (USER, ERROR):
                    self._record(ending, TIME_LIMIT, MORE_TIME)
                    return {}
                self._go_on(ending, progressed=self.run_folder.newest()[1] > epochs)

    def _attempt(self, resume_from: Path | None, display: Display) -> Ending:
        """Start a child and watch it until it ends."""
        orders = Orders(
            device=self.restarts.device,
            deadline=self.deadline,
            micro_batch=self.restarts.micro_batch,
            evaluation_batch=self.restarts.evaluation_batch,
            resume_from=str(resume_from) if resume_from is not None else None,
            fault=self.work.fault,
            faults_injected=self.incidents,
        )
        self.beat = Beat(device=orders.device)
        with full_disk_named(self.folder):
            child = Child(
                self.folder, self.work.target, self.work.arguments, orders, self.start_child
            )
        try:
            return self._watch(child, display)
        except BaseException:
            child.end(0.0, self.limits.abandon_after)
            raise
        finally:
            for line in child.new_lines():
                display.line(line)
            display.pause()

    def _watch(self, child: Child, display: Display) -> Ending:
        last_beat = last_look = time.monotonic()
        latest_end = self.deadline + self.limits.grace
        asked = False
        while not child.ended:
            time.sleep(POLL_SECONDS)
            for line in child.new_lines():
                display.line(line)
            moment = time.monotonic()  # before the beat is read, which may only be newer
            if moment - last_look > PAUSE:  # this process was stopped, perhaps the machine
                last_beat += moment - last_look
            last_look = moment
            beat = read_beat(self.folder)
            if beat is not None and beat.pid == child.process.pid and beat != self.beat:
                self.beat, last_beat = beat, moment
                display.show(beat)
            if self.signals and not asked and (self.beat.pid or moment > last_beat + PAUSE):
                asked = True
                latest_end = min(latest_end, moment + self.limits.grace)
                child.ask_to_stop()
                display.line("Stopping after this step; Ctrl-C again stops at once")
            if len(self.signals) > 1 or moment > latest_end:
                kind = STOPPED if self.signals else TIME_LIMIT
                return self._end(child, kind, f"it did not end when asked to ({kind})")
            limit = policy.silence_limit(self.beat, self.limits)
            if moment - last_beat > limit:
                what = f"silent for {moment - last_beat:.0f} s (limit {limit:.0f} s)"
                return self._end(child, policy.SILENT, what)
        return self._how_it_ended(child)

    def _end(self, child: Child, kind: str, what: str) -> Ending:
        killed = child.end(self.limits.kill_after, self.limits.abandon_after)
        if not killed:
            what += f"; process {child.process.pid} cannot be killed and is left behind"
        return Ending(kind, what, child.stack(), abandoned=not killed)

    def _how_it_ended(self, child: Child) -> Ending:
        beat = read_beat(self.folder)
        if beat is not None and beat.pid == child.process.pid:  # not of the child before
            self.beat = beat
        child.end(0.0, self.limits.abandon_after)  # processes that it started
        if (self.folder / FAILURE).is_file():
            failure = json.loads((self.folder / FAILURE).read_text())
            return Ending(failure["kind"], failure["message"], failure["traceback"])
        if child.process.returncode == EXIT_FULL_DISK:
            return Ending(USER, f"{self.folder}: disk full; what is written already is kept")
        if child.process.returncode == 0:
            if (self.folder / RESULT).is_file():
                return Ending(FINISHED, FINISHED)
            return Ending(policy.NO_RESULT, "it ended with status 0 but left no result")
        return Ending(policy.DIED, child.how_it_ended(), child.stack())

    def _go_on(self, ending: Ending, progressed: bool) -> None:
        """Record the incident and prepare the next attempt, or raise what ends the training."""
        if ending.kind in (USER, ERROR):
            self._record(ending, ERROR, KEPT)
            if ending.kind == USER:
                raise UserError(ending.what)
            raise UserError(
                f"training failed at step {self.beat.step}: {ending.what}\n{ending.stack}"
                f"Everything saved until then is in {self.folder}"
            )
        if ending.abandoned and self.restarts.device != policy.CPU:
            ABANDONED.add(self.restarts.device)
        action = self.restarts.after(ending.kind, progressed, ending.abandoned, self.beat.section)
        self._record(ending, ending.kind, action or "given up; what is saved is kept")
        if action is None:
            raise UserError(
                f"training on {self.beat.device}: {ending.what}, step {self.beat.step}; given up "
                f"after {self.restarts.restarts} restarts. "
                f"Stacks are in {self.folder / 'incidents.jsonl'}"
            )
        self.incidents += 1

    def _record(self, ending: Ending, kind: str, action: str) -> None:
        seconds = time.monotonic() - self.started
        incident = Incident.now(self.beat, kind, ending.what, action, seconds, ending.stack)
        record(self.folder, incident, self.work.name)

    def _stopped(self, ending: Ending) -> TrainingStopped:
        # without a signal here, the child alone was sent one
        number = self.signals[-1] if self.signals else signal.SIGTERM
        if ending.kind == FINISHED:
            ending.what = f"asked to stop by {number.name}"
        self._record(ending, STOPPED, KEPT)
        epochs = self.run_folder.newest()[1]
        return TrainingStopped(
            f"Stopped by {number.name} in {self.folder} after {epochs} whole "
            f"{'epoch' if epochs == 1 else 'epochs'}; the same command resumes it",
            number,
        )
