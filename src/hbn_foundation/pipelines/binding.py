"""One node function for several instances of a template, each with its own recipe."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any


def with_recipe(function: Callable[..., Any], recipe: type) -> Callable[..., Any]:
    """Return a copy of a node function whose argument `recipe` is annotated with a model.

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
    copy.__annotations__ = {**function.__annotations__, "recipe": recipe}
    return copy
