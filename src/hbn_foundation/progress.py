"""Progress of long work: a bar on a terminal, lines elsewhere, and never a long silence."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, TypeVar

Item = TypeVar("Item")
Part = Callable[[], tuple[float, str]]

LOGGER = logging.getLogger("hbn_foundation")
SECONDS_BETWEEN_LINES = 10.0
MOST_SILENCE = {True: 8.0, False: 30.0}
"""Seconds on a terminal, and in a file, after which a line says how far the work is."""

SECONDS_UNTIL_A_BAR = 1.0
SECONDS_BETWEEN_LOOKS = 1.0
_DRAWN: list[Any] = []  # rich's live displays, the uppermost last; None where others draw
_WORK: list[Callable[[], str]] = []  # what says how far the work is, the innermost last
_said = time.monotonic()


def say(text: str) -> None:
    """Tell the user one line through the project's logger, above the bar where one is drawn."""
    global _said
    _said = time.monotonic()
    live = _DRAWN[-1] if _DRAWN else None
    if live is None:
        LOGGER.info(text)
        return
    # The handlers of the log write past the bar: it steps aside for the line.
    live.transient = True
    live.stop()
    LOGGER.info(text)
    live.transient = False
    live.start()


@lru_cache(maxsize=1000)
def say_once(text: str) -> None:
    """Tell a line that several steps of a run meet with, such as an oddity of a file, once."""
    say(text)


def may_draw() -> bool:
    """Tell whether a bar can be drawn: on a terminal where no other one is."""
    return sys.stderr.isatty() and not _DRAWN


@contextmanager
def drawing(live: Any) -> Iterator[None]:
    """Have the terminal for oneself inside the block: two bars at once would write into another.

    Parameters
    ----------
    live
        What draws, a `rich.live.Live`; lines said inside the block stand above it.
    """
    _DRAWN.append(live)
    try:
        live.start()
        yield
    finally:
        live.stop()
        _DRAWN.remove(live)


def draw_nothing() -> None:
    """Leave the terminal to the process that started this one, from now on."""
    _DRAWN.append(None)


@contextmanager
def working(how_far: Callable[[], str]) -> Iterator[None]:
    """Have `how_far` asked inside the block whenever nothing was said for long.

    The answer of the innermost block is said, every 8 s on a terminal where no bar is drawn, and
    every 30 s in a file.
    """
    _WORK.append(how_far)
    ended = threading.Event()
    if len(_WORK) == 1:
        threading.Thread(target=_pulse, args=(ended,), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        _WORK.remove(how_far)


def _pulse(ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        work = _WORK[-1:]
        if work and not _DRAWN and time.monotonic() - _said > MOST_SILENCE[sys.stderr.isatty()]:
            say(work[0]())


def track(
    items: Iterable[Item], description: str, total: int | None = None, part: Part | None = None
) -> Iterator[Item]:
    """Yield `items` while showing how many are done and how long the rest will take.

    Parameters
    ----------
    items
        What is worked through; an item counts as done when the next one is asked for.
    description
        A few words before the bar.
    total
        How many items there are, where `len(items)` does not tell.
    part
        For items that take long: gives how much of those under way is done, in items, and a few
        words about them.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    count = Count(description, total, part)
    with ExitStack() as stack:
        stack.enter_context(working(count.text))
        drawn = count.draw(stack, at_once=part is not None)
        for item in items:
            drawn = drawn or count.draw(stack)
            if not _DRAWN and count.done and time.monotonic() - _said > SECONDS_BETWEEN_LINES:
                say(count.text())
            yield item
            count.done += 1


class Count:
    """How many of some items are done, with what is done of those under way."""

    def __init__(self, description: str, total: int | None, part: Part | None) -> None:
        self.description, self.total, self.part = description, total, part
        self.done = 0
        self.started = time.monotonic()
        self._under_way: tuple[float, str] = (0.0, "")
        self._looked = 0.0

    def under_way(self) -> tuple[float, str]:
        """Look at the items under way, not more often than once a second."""
        now = time.monotonic()
        if self.part is not None and now - self._looked > SECONDS_BETWEEN_LOOKS:
            self._under_way, self._looked = self.part(), now
        return self._under_way

    def completed(self) -> float:
        """Items done, and the done part of others."""
        done = self.done + self.under_way()[0]
        return done if self.total is None else min(done, self.total)

    def seconds_left(self) -> float | None:
        """Estimate the seconds to the last item; None while there is nothing to go by."""
        completed = self.completed()
        if not self.total or not completed:
            return None
        return (time.monotonic() - self.started) / completed * (self.total - completed)

    def words(self) -> str:
        """Tell the time left, and what is under way."""
        left = self.seconds_left()
        parts = ["" if left is None else f"about {duration(left)} left", self.under_way()[1]]
        return ", ".join(word for word in parts if word)

    def text(self) -> str:
        """One line: `folds: 1 of 5, about 2 min left, epoch 3/15`."""
        counted = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        words = self.words() or f"{duration(time.monotonic() - self.started)} so far"
        return f"{self.description}: {counted}, {words}"

    def draw(self, stack: ExitStack, at_once: bool = False) -> bool:
        """Draw a bar until the stack is closed, where the work takes long and one can be drawn."""
        now = time.monotonic()
        if not may_draw() or not (at_once or now - self.started > SECONDS_UNTIL_A_BAR):
            return False
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.table import Column
        from rich.text import Text

        count = self

        class Now(ProgressColumn):
            """Beside the bar, as of the moment it is drawn."""

            max_refresh = 0.2

            def render(self, task: Task) -> Text:
                counted = f"{count.done}" if count.total is None else f"{count.done}/{count.total}"
                elapsed = duration(time.monotonic() - count.started)
                text = f"{counted}  {elapsed}  {count.words()}"
                return Text(text, overflow="ellipsis", no_wrap=True)

        class Bar(BarColumn):
            def render(self, task: Task) -> Any:
                task.completed = count.completed()
                return super().render(task)

        bar = Bar(bar_width=None, table_column=Column(ratio=1))
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), bar, Now())
        progress = Progress(*columns, console=console, expand=True)
        progress.add_task(self.description, total=self.total)
        stack.enter_context(drawing(progress.live))
        return True


def duration(seconds: float, digits: int = 0) -> str:
    """Say a time in words; below a minute with so many digits."""
    if not seconds < float("inf"):
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.{digits}f} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
