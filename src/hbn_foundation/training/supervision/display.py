"""How a training is shown: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack

from hbn_foundation.progress import bar, drawing, duration, may_draw, say, working
from hbn_foundation.training.supervision.heartbeat import Beat

SECONDS_UNTIL_SILENCE_IS_SHOWN = 10.0


class Display:
    """Draws from the heartbeat, in the supervisor: a hung child leaves no broken bar.

    A supervisor draws the beats of its child; a training without one, its own.
    """

    def __init__(self) -> None:
        self._beat = Beat()
        self._heard = 0.0  # when the last beat came
        self._shown = False
        self._stack = ExitStack()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def show(self, beat: Beat) -> None:
        """Move the bar to a beat."""
        self._beat, self._heard = beat, time.monotonic()
        if beat.steps and not self._shown:
            self._shown = True
            self._stack.enter_context(working(self.describe))
            if may_draw():
                self._stack.enter_context(drawing(bar("", self._steps, self.describe)))

    def line(self, text: str) -> None:
        """Show a line of the child's above the bar; it also goes where the log does."""
        say(text)

    def pause(self) -> None:
        """Leave the bar as it is; the next beat begins another one."""
        self._heard = time.monotonic()  # the incident that follows names the silence
        self._stack.close()
        self._shown = False

    def _steps(self) -> tuple[float, float]:
        return self._beat.step, self._beat.steps

    def describe(self) -> str:
        """One line about now, with a silence that is long."""
        silence = time.monotonic() - self._heard
        text = describe(self._beat)
        if silence > SECONDS_UNTIL_SILENCE_IS_SHOWN:
            text += f"  silent for {duration(silence)}"
        return text


class Quiet(Display):
    """Shows nothing, for one of many trainings at once; the child's lines are in its log."""

    def show(self, beat: Beat) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""


def describe(beat: Beat) -> str:
    """One line about a beat: epoch, loss, speed, time left, device."""
    parts = [f"epoch {beat.epoch}/{beat.epochs}"]
    if beat.loss is not None:
        parts.append(f"loss {beat.loss:.3f}")
    if beat.windows_per_second:
        parts.append(f"{beat.windows_per_second:.0f} windows/s")
    if beat.seconds_left is not None:
        parts.append(f"{duration(beat.seconds_left)} left")
    return "  ".join([*parts, beat.device])
