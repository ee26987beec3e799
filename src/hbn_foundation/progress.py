"""Progress of long work: a bar on a terminal, lines elsewhere, and never a long silence."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from hbn_foundation.errors import UserError

Item = TypeVar("Item")

LOGGER = logging.getLogger("hbn_foundation")
MAX_SILENCE = {True: 8.0, False: 30.0}
"""Seconds on a terminal, and in a file, after which a line says how far the work is."""

SECONDS_UNTIL_A_BAR = 1.0
POLL_SECONDS = 1.0
_DRAWN: list[Any] = []  # rich's live displays, the uppermost last; None where others draw
_WORK: list[Callable[[], str]] = []  # describe the work under way, the innermost last
_said = time.monotonic()


def say(text: str) -> None:
    """Log one line for the user, above the bar where one is drawn."""
    global _said
    _said = time.monotonic()
    live = _DRAWN[-1] if _DRAWN else None
    if live is None:
        LOGGER.info(text)
        return
    # The handlers of the log write past the bar: it is removed for the line.
    live.transient = True
    live.stop()
    LOGGER.info(text)
    live.transient = False
    live.start()


@lru_cache(maxsize=1000)
def say_once(text: str) -> None:
    """Log a line only once, though several steps of a run meet its cause."""
    say(text)


@contextmanager
def log_file(path: Path, title: str) -> Iterator[logging.Logger]:
    """Append what is logged inside the block to a file, under a line with the title.

    While another process writes to that file, one that is named after this process is taken.

    Yields
    ------
    logging.Logger
        Writes to the file alone.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    from filelock import FileLock, Timeout

    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(path.with_name(f".{path.name}.lock"), timeout=0))
            except Timeout:
                path = path.with_stem(f"{path.stem}-{os.getpid()}")
            handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: the log cannot be written ({error.strerror})") from None
        stack.callback(handler.close)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        alone = logging.Logger("hbn_foundation.log_file")
        alone.addHandler(handler)
        alone.info(f"==== {title} (process {os.getpid()})")
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        say(f"Log: {os.path.relpath(path)} (tail -f follows it)")
        try:
            yield alone
        except Exception:
            alone.exception("The run ended by an error:")
            raise


def may_draw() -> bool:
    """Tell whether a bar can be drawn: on a terminal where no other one is."""
    return sys.stderr.isatty() and not _DRAWN


@contextmanager
def drawing(live: Any) -> Iterator[None]:
    """Draw a `rich.live.Live` inside the block; lines that are logged there stand above it."""
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


def bar(description: str, done: Callable[[], tuple[float, float | None]], text: Any) -> Any:
    """Make a bar, to be drawn by `drawing`.

    Parameters
    ----------
    description
        A few words before the bar.
    done
        Gives how much is done, and how much there is in all, None where that is not known.
    text
        Gives the words after the bar, as of the moment it is drawn.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def line() -> Table:
        completed, total = done()
        table = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            table.add_column(ratio=ratio, no_wrap=True)
        words = Text(text(), overflow="ellipsis", no_wrap=True)
        table.add_row(description, ProgressBar(total, completed), words)
        return table

    return Live(get_renderable=line, console=Console(stderr=True), refresh_per_second=10)


@contextmanager
def working(how_far: Callable[[], str]) -> Iterator[None]:
    """Log `how_far()` inside the block whenever nothing was logged for long.

    Of nested blocks the innermost one is asked, after 8 s on a terminal where no bar is drawn, and
    after 30 s in a file.
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
    while not ended.wait(POLL_SECONDS):
        work = _WORK[-1:]
        if work and not _DRAWN and time.monotonic() - _said > MAX_SILENCE[sys.stderr.isatty()]:
            say(work[0]())


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` while showing how many are done and how long the rest will take.

    Parameters
    ----------
    items
        What is worked through; an item counts as done when the next one is asked for.
    description
        A few words before the bar.
    total
        How many items there are, where `len(items)` does not tell.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    count = Count(description, total)
    with ExitStack() as stack:
        stack.enter_context(working(count.line))
        drawn = False
        for item in items:
            if not drawn and time.monotonic() - count.started > SECONDS_UNTIL_A_BAR:
                drawn = count.draw(stack)
            yield item
            count.done += 1


class Count:
    """How many of some items are done, and the time left."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.done = 0
        self.started = time.monotonic()

    def completed(self) -> tuple[float, int | None]:
        """Items done, and how many there are."""
        return self.done, self.total

    def seconds_left(self) -> float | None:
        """Estimate the seconds to the last item; None while nothing is done."""
        if not self.total or not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)

    def text(self, of: str = "/") -> str:
        """Say the count and the time left."""
        counted = f"{self.done}" if self.total is None else f"{self.done}{of}{self.total}"
        left = self.seconds_left()
        if left is not None:
            time_ = f"about {duration(left)} left"
        else:
            time_ = f"{duration(time.monotonic() - self.started)} so far"
        return f"{counted}, {time_}"

    def line(self) -> str:
        """One line: `folds: 1 of 5, about 2 min left`."""
        return f"{self.description}: {self.text(' of ')}"

    def draw(self, stack: ExitStack) -> bool:
        """Draw a bar until the stack is closed, where one can be drawn."""
        if not may_draw():
            return False
        stack.enter_context(drawing(bar(self.description, self.completed, self.text)))
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
