"""Words for messages."""

from __future__ import annotations

from collections.abc import Iterable


def some(names: Iterable[object], most: int = 5) -> str:
    """Join the first few names by commas and count the rest."""
    words = [str(name) for name in names]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def written(value: object) -> str:
    """Write a value as its file has it: a column with gaps turns the 1 of a file into 1.0."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
