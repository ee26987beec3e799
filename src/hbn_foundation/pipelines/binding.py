"""Nodes, and one node function for several instances of a template, each with its own recipe."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from kedro.pipeline import node


def with_recipe(function: Callable[..., Any], recipe: type, **others: type) -> Callable[..., Any]:
    """Return a copy of a node function whose argument `recipe`, and others, have these types.

    Kedro validates parameters by the annotations of the functions that take them.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__doc__, copy.__module__ = function.__doc__, function.__module__
    copy.__annotations__ = {**function.__annotations__, "recipe": recipe, **others}
    return copy


def step(
    function: Callable[..., Any],
    inputs: list[str] | str,
    outputs: list[str] | str | None,
    tag: str | None = "evaluation",
    name: str = "",
) -> Any:
    """Make a node, named after its function where it is not given a name."""
    return node(function, inputs=inputs, outputs=outputs, name=name or function.__name__, tags=tag)
