"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

LOGGER = logging.getLogger("hbn_foundation")
SECONDS_BETWEEN_LINES = 10.0
_DRAWN: list[bool] = []  # as many as draw


def say(text: str) -> None:
    """Tell the user one line through the project's logger."""
    LOGGER.info(text)


def may_draw() -> bool:
    """Tell whether a bar can be drawn: on a terminal where no other one is."""
    return sys.stderr.isatty() and not _DRAWN


@contextmanager
def drawing() -> Iterator[None]:
    """Have the terminal for oneself inside the block: two bars at once would write into another."""
    _DRAWN.append(True)
    try:
        yield
    finally:
        _DRAWN.pop()


def draw_nothing() -> None:
    """Leave the terminal to the process that started this one, from now on."""
    _DRAWN.append(True)


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
    if may_draw():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def _bar(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import Progress

    with drawing(), Progress(console=Console(stderr=True), transient=False) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said > SECONDS_BETWEEN_LINES and done:
            said = now
            if total:
                left = (now - started) / done * (total - done)
                say(f"{description}: {done} of {total}, about {left:.0f} s left")
            else:
                say(f"{description}: {done}")
        yield item
