"""What a person sees of a training: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from hbn_foundation.progress import drawing, duration, may_draw, say, working
from hbn_foundation.training.supervision.heartbeat import STEP, Beat

SECONDS_UNTIL_SILENCE_IS_SHOWN = 10.0


class Display:
    """Draws from the heartbeat, so that a hung child leaves no broken bar behind.

    The supervisor draws what its child beats; a training without one, its own beats.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._beat = Beat()
        self._tells = False  # where no bar can be drawn
        self._heard = 0.0  # when the last beat came
        self._pace = Pace()
        self._place = ExitStack()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def show(self, beat: Beat) -> None:
        """Move the bar to a beat."""
        self._beat, self._heard = beat, time.monotonic()
        self._pace.note(beat, self._heard)
        if not beat.steps:
            return
        if self._bar is None:
            if not may_draw():
                if not self._tells:
                    self._tells = True
                    self._place.enter_context(working(self.describe))
                return
            self._start()
        self._bar.update(self._task, completed=beat.step, total=beat.steps)

    def line(self, text: str) -> None:
        """Show a line of the child's above the bar; it also goes where the log does."""
        say(text)

    def pause(self) -> None:
        """Leave the bar as it is; the next beat begins another one."""
        if self._bar is not None:
            self._heard = time.monotonic()  # whoever ended the child tells of its silence
            self._bar = None
        self._place.close()
        self._tells = False
        self._pace = Pace()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task
        from rich.table import Column
        from rich.text import Text

        display = self

        class Now(ProgressColumn):
            """The line beside the bar, as of the moment it is drawn."""

            def render(self, task: Task) -> Text:
                return Text(display.describe(), overflow="ellipsis", no_wrap=True)

        rest_of_the_line = BarColumn(bar_width=None, table_column=Column(ratio=1))
        self._bar = Progress(rest_of_the_line, Now(), console=Console(stderr=True), expand=True)
        self._task = self._bar.add_task("training", total=self._beat.steps)
        self._place.enter_context(drawing(self._bar.live))

    def describe(self) -> str:
        """One line about now: epoch, loss, speed, time left, device, silence."""
        beat = self._beat
        parts = [f"epoch {beat.epoch}/{beat.epochs}"]
        if beat.loss is not None:
            parts.append(f"loss {beat.loss:.3f}")
        if beat.windows_per_second:
            parts.append(f"{beat.windows_per_second:.0f} windows/s")
        left = self._pace.seconds_left(beat)
        if left is not None:
            parts.append(f"{duration(left)} left")
        parts.append(beat.device)
        silence = time.monotonic() - self._heard
        if silence > SECONDS_UNTIL_SILENCE_IS_SHOWN:
            parts.append(f"silent for {duration(silence)}")
        return "  ".join(parts)


class Quiet(Display):
    """Shows nothing: for one of many trainings at once. What a child says is in its log."""

    def show(self, beat: Beat) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""


class Pace:
    """How fast the steps of one child come, validations and checkpoints between them included.

    Of this epoch and the one before: steps take longer once more of a model is trained.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._first: tuple[int, float] | None = None
        self._turn: tuple[int, float] | None = None  # where this epoch began
        self._last: tuple[int, float] | None = None

    def note(self, beat: Beat, moment: float) -> None:
        """Take up a beat; the first step, which may be slow, is left out."""
        if beat.section != STEP or not beat.step:
            return
        if self._first is None:
            self._first = self._turn = (beat.step, moment)
        elif beat.epoch != self._epoch:
            self._first, self._turn = self._turn, self._last
        self._epoch, self._last = beat.epoch, (beat.step, moment)

    def seconds_left(self, beat: Beat) -> float | None:
        """Estimate the seconds to the last step; None while there is nothing to go by."""
        steps = beat.steps - beat.step
        if self._first is not None and self._last is not None and self._last[0] > self._first[0]:
            (first, began), (last, ended) = self._first, self._last
            return steps * (ended - began) / (last - first)
        return steps * beat.median_step if beat.median_step is not None else None
