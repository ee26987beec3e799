"""The error that a user can mend, the end by Ctrl-C, and words of messages."""

import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """A mistake in the input or the configuration.

    The message is one line that names the file or key, the value found and what is expected;
    the command line prints it without a traceback.
    """


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it comes from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def mistake(error: BaseException | None) -> UserError | None:
    """Return the mistake of the user that an error comes from, if one lies below it."""
    return next((cause for cause in causes(error) if isinstance(cause, UserError)), None)


def typed_command() -> str:
    """Write the command line of this process as it was typed."""
    path = Path(sys.argv[0])
    name = path.name
    if name == "__main__.py":  # of `python -m`
        name = {"hbn_foundation": "hbn-foundation"}.get(path.parent.name, path.parent.name)
    return f"{name} {shlex.join(sys.argv[1:])}"


def leave_interrupted() -> NoReturn:
    """Tell in one line that Ctrl-C ended the command, and leave with status 130."""
    print(f"Stopped by SIGINT; this begins again: {typed_command()}", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def count_of(n: int, noun: str) -> str:
    """Write a count with its noun: 1 test subject, 12 test subjects."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def first_few(names: Iterable[object], most: int = 5) -> str:
    """Join the first names by commas and count the rest."""
    words = [str(name) for name in names]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def as_text(value: object) -> str:
    """Write a value as its file has it: a column with gaps turns the 1 of a file into 1.0."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def one_line(error: BaseException | str, most: int = 200) -> str:
    """Put an exception's message in one line of at most `most` characters."""
    text = " ".join(str(error).split())[:most]
    if text and not isinstance(error, KeyError):
        return text
    return f"{type(error).__name__} {text}".strip()
