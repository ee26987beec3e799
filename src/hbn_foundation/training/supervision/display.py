"""What a person sees of a training: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from hbn_foundation.progress import say
from hbn_foundation.training.supervision.heartbeat import Beat


class Display:
    """Draws from the heartbeat, so that a hung child leaves no broken bar behind."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def show(self, beat: Beat) -> None:
        """Move the bar to a beat."""
        if not sys.stderr.isatty() or not beat.steps:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("training", total=beat.steps)
        self._bar.update(self._task, completed=beat.step, description=describe(beat))

    def line(self, text: str) -> None:
        """Show a line of the child's above the bar."""
        if self._bar is None:
            say(text)
        else:
            self._bar.console.print(text, highlight=False, markup=False)

    def pause(self) -> None:
        """Leave the bar as it is; the next beat begins another one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(beat: Beat) -> str:
    """One line about a beat: epoch, loss, speed, device."""
    parts = [f"epoch {beat.epoch}/{beat.epochs}"]
    if beat.loss is not None:
        parts.append(f"loss {beat.loss:.3f}")
    if beat.windows_per_second:
        parts.append(f"{beat.windows_per_second:.0f} windows/s")
    return " ".join([*parts, beat.device])
