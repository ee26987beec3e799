"""Calls that make a model, described before they are made.

From one description the model is made here, and the source is written that makes it elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.params import Params
from hbn_foundation.submission.modules import Symbol

WIDTH = 100


@dataclass(frozen=True)
class Call:
    """A call of a class or function that is defined at the top of a module.

    Parameters
    ----------
    target
        What is called.
    arguments
        By name: numbers, strings, None, lists, tuples, dictionaries, groups of parameters,
        further calls; and tensors, of which the source has the shape alone, so that they have to
        be among the weights.
    """

    target: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Make the calls, the inner ones first."""
        return self.target(**{name: _built(value) for name, value in self.arguments.items()})


def _built(value: Any) -> Any:
    if isinstance(value, Call):
        return value.build()
    if isinstance(value, Mapping):
        return {key: _built(part) for key, part in value.items()}
    return [_built(part) for part in value] if isinstance(value, list) else value


def symbol_of(target: Any) -> Symbol:
    """Return where a class or function is defined.

    Raises
    ------
    UserError
        When it is not at the top of a module.
    """
    name = getattr(target, "__qualname__", repr(target))
    if not name.isidentifier():
        raise UserError(f"export: {name} is not defined at the top of a module")
    return Symbol(target.__module__, name)


def symbols_in(value: Any) -> set[Symbol]:
    """Return the definitions that the source of a value names."""
    if isinstance(value, Call):
        return {symbol_of(value.target)}.union(*map(symbols_in, value.arguments.values()))
    if _is_group(value):
        return {symbol_of(type(value))}.union(*map(symbols_in, _fields(value).values()))
    if isinstance(value, Mapping):
        return set().union(*map(symbols_in, value.values()))
    return set().union(*map(symbols_in, value)) if isinstance(value, list | tuple) else set()


def write_value(value: Any, names: Mapping[Symbol, str], indent: int = 0) -> str:
    """Write the source of a value.

    Parameters
    ----------
    value
        As an argument of a `Call`.
    names
        What each definition is called there.
    indent
        How far the line is indented that the value begins in.

    Raises
    ------
    UserError
        For a value of another kind.
    """

    def inner(part: Any) -> str:
        return write_value(part, names, indent + 4)

    if isinstance(value, Call) or _is_group(value):
        target = value.target if isinstance(value, Call) else type(value)
        arguments = value.arguments if isinstance(value, Call) else _fields(value)
        items = [f"{name}={inner(part)}" for name, part in arguments.items()]
        return _bracketed(f"{names[symbol_of(target)]}(", items, ")", indent)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        items = [f"{key!r}: {inner(part)}" for key, part in value.items()]
        return _bracketed("{", items, "}", indent)
    if isinstance(value, tuple) and len(value) == 1:
        return f"({inner(value[0])},)"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        return _bracketed(opening, [inner(part) for part in value], closing, indent)
    if hasattr(value, "storage_offset"):  # a tensor
        return f"torch.zeros({tuple(value.shape)}, dtype={value.dtype})"
    raise UserError(
        f"export: a model is made with a {type(value).__name__}; expected numbers, strings, "
        "containers of them, groups of parameters or calls"
    )


def _is_group(value: Any) -> bool:
    return isinstance(value, Params) or is_dataclass(value)


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, Params):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _bracketed(opening: str, items: list[str], closing: str, indent: int) -> str:
    """Write items on one line where they fit, else one a line."""
    line = f"{opening}{', '.join(items)}{closing}"
    if "\n" not in line and indent + len(line) <= WIDTH - 20:
        return line
    inside = "".join(f"{' ' * (indent + 4)}{item},\n" for item in items)
    return f"{opening}\n{inside}{' ' * indent}{closing}"
