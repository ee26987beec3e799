"""The parent's side: start a child, listen, end it when it is silent, start the next one.

Imports neither torch nor Lightning: it must go on when they hang.
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
from hbn_foundation.files import full_disk_named, renamed_when_done
from hbn_foundation.progress import say
from hbn_foundation.training.supervision import policy
from hbn_foundation.training.supervision.display import Display
from hbn_foundation.training.supervision.failures import ERROR, USER
from hbn_foundation.training.supervision.faults import Fault
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat
from hbn_foundation.training.supervision.incidents import record
from hbn_foundation.training.supervision.link import STOPPED, TIME_IS_UP, TIME_LIMIT, Orders
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.process import EXIT_FULL_DISK, FAILURE, RESULT, Child

SECONDS_BETWEEN_LOOKS = 0.1
FINISHED = "finished"
KEPT = "stopped; what is saved is kept"
MORE_TIME = "stopped; the same command with more max_training_time goes on"
PAUSE = 5.0  # a longer time between two looks is a pause of this process

#: Devices on which a child of this process was left behind; other trainings keep away from them.
ABANDONED: set[str] = set()


class TrainingStopped(UserError):  # noqa: N818 - says what happened
    """A person or the system asked for the end; `signal_number` says how."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[Any, ...]:  # from a worker
        return type(self), (str(self), self.signal_number)


class Stop(BaseException):
    """Not caught by `except Exception`, as handlers of the log have it."""


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Raise `TrainingStopped` on SIGINT or SIGTERM inside the block; a second one ends at once.

    A supervisor inside the block, in this process, takes them itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        for each in before:  # the next signal does not wait until all is closed
            signal.signal(each, lambda again, _: os._exit(128 + again))
        raise Stop(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except Stop as stopped:
        number = signal.Signals(stopped.args[0])
        raise TrainingStopped(
            f"Stopped by {number.name}; what is done is kept, the same command goes on",
            number,
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class ResumePoint:
    """The newest checkpoint to go on from: its folder, and the epochs done in it."""

    folder: Path | None
    epochs: int


@dataclass
class Ending:
    """How a child ended; `kind` is `finished`, or that of an incident."""

    kind: str
    what: str
    stack: str = ""
    abandoned: bool = False


class StopSignals:
    """Counts SIGINT and SIGTERM while it is entered; elsewhere than in the main thread, none."""

    def __init__(self) -> None:
        self.count = 0
        self.number = signal.SIGTERM  # unless noted, it was the child who was sent it

    def _note(self, number: int, _: Any) -> None:
        self.count += 1
        self.number = signal.Signals(number)

    @contextmanager
    def caught(self) -> Iterator[StopSignals]:
        """Catch them inside the block."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Supervisor:
    """Keeps a training going until it is done, or nothing more can be tried.

    Parameters
    ----------
    folder
        Of the run: heartbeat, incidents, checkpoints.
    target, arguments
        What the child calls; it is also given `link`.
    device
        Where to begin.
    batch_size
        Windows per step.
    seconds
        `max_training_time`, over all restarts.
    limits
        Of silence.
    resume_point
        Finds the newest whole checkpoint.
    fault
        A fault to order.
    start_child
        Makes the child, with the arguments of `Child`.
    name
        Comes before what is said of an incident, where several trainings run at once.
    display
        Makes what shows the child's lines and progress.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        arguments: dict[str, Any],
        *,
        device: str,
        batch_size: int,
        seconds: float,
        limits: SupervisionParams,
        resume_point: Callable[[], ResumePoint],
        fault: Fault | None = None,
        start_child: Callable[..., Child] = Child,
        name: str = "",
        display: Callable[[], Display] = Display,
    ) -> None:
        self.start_child = start_child
        self.name = name
        self.display = display
        self.folder = folder
        self.target = target
        self.arguments = arguments
        self.limits = limits
        self.resume_point = resume_point
        self.fault = fault
        if device in ABANDONED:
            say(f"{device} is not used again in this run: a child there could not be killed")
            device = policy.CPU
        self.restarts = policy.Restarts(device, batch_size, limits.max_restarts)
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.incidents = 0
        self.beat = Beat(device=device)

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
        with renamed_when_done(self.folder / LIMITS) as temporary:
            temporary.write_text(self.limits.model_dump_json())
        with StopSignals().caught() as stop, self.display() as display:
            while True:
                point = self.resume_point()
                ending = self._attempt(point, stop, display)
                result = self._result() if ending.kind == FINISHED else {}
                if stop.count or result.get("stopped") == STOPPED:
                    if ending.kind == FINISHED:
                        ending.what = f"asked to stop by {stop.number.name}"
                    self._record(ending, STOPPED, KEPT)
                    raise self._stopped(stop)
                if ending.kind == FINISHED:
                    if str(result.get("stopped")).startswith(TIME_IS_UP):
                        ending.what = result["stopped"]
                        self._record(ending, TIME_LIMIT, MORE_TIME)
                    return result
                if time.monotonic() > self.deadline and ending.kind not in (USER, ERROR):
                    self._record(ending, TIME_LIMIT, MORE_TIME)
                    return {}
                self._go_on(ending, progressed=self.resume_point().epochs > point.epochs)

    def _attempt(self, point: ResumePoint, stop: StopSignals, display: Display) -> Ending:
        """Start a child and listen to it until it ends."""
        orders = Orders(
            device=self.restarts.device,
            deadline=self.deadline,
            micro_batch=self.restarts.micro_batch,
            evaluation_batch=self.restarts.evaluation_batch,
            resume_from=str(point.folder) if point.folder is not None else None,
            fault=self.fault,
            faults_struck=self.incidents,
        )
        self.beat = Beat(device=orders.device)
        with full_disk_named(self.folder):
            child = self.start_child(self.folder, self.target, self.arguments, orders)
        try:
            return self._listen(child, stop, display)
        except BaseException:
            child.end(0.0, self.limits.abandon_after)
            raise
        finally:
            for line in child.new_lines():
                display.line(line)
            display.pause()

    def _listen(self, child: Child, stop: StopSignals, display: Display) -> Ending:
        heard = looked = time.monotonic()
        last = self.deadline + self.limits.grace
        asked = False
        while not child.ended:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for line in child.new_lines():
                display.line(line)
            moment = time.monotonic()  # before the beat is read, which may only be newer
            if moment - looked > PAUSE:  # this process was stopped, perhaps the machine
                heard += moment - looked
            looked = moment
            beat = read_beat(self.folder)
            if beat is not None and beat.pid == child.process.pid and beat != self.beat:
                self.beat, heard = beat, moment
                display.show(beat)
            if stop.count and not asked and (self.beat.pid or moment > heard + PAUSE):
                asked, last = True, min(last, moment + self.limits.grace)
                child.ask_to_stop()
                display.line("Stopping after this step; Ctrl-C again stops at once")
            if stop.count > 1 or moment > last:
                kind = STOPPED if stop.count else TIME_LIMIT
                return self._end(child, kind, f"it did not end when asked to ({kind})")
            limit = policy.silence_limit(self.beat, self.limits)
            if moment - heard > limit:
                what = f"silent for {moment - heard:.0f} s (limit {limit:.0f} s)"
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
        child.end(0.0, self.limits.abandon_after)  # what it started and left
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

    def _result(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / RESULT).read_text()))

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
        record(
            self.folder, self.beat, kind, ending.what, action, seconds=seconds, stack=ending.stack,
            name=self.name,
        )  # fmt: skip

    def _stopped(self, stop: StopSignals) -> TrainingStopped:
        epochs = self.resume_point().epochs
        return TrainingStopped(
            f"Stopped by {stop.number.name} in {self.folder} after {epochs} whole "
            f"{'epoch' if epochs == 1 else 'epochs'}; the same command goes on there",
            stop.number,
        )
