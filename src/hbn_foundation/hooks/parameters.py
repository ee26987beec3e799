"""Refuse names of parameters that no node reads."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from hbn_foundation.errors import UserError


class ParameterNames:
    """Refuse parameter names that no node reads.

    The value of a known group is checked by its pydantic model; a group whose own name is
    misspelt would be ignored without a word.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Compare the configured names with those that the pipelines ask for."""
        known = known_parameters()
        for name in _groups(context.config_loader["parameters"]):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                raise UserError(f"parameter {name}: no node reads it; {hint}")


def known_parameters() -> list[str]:
    """Return the dotted names of all parameter groups that some node reads."""
    from hbn_foundation.pipeline_registry import register_pipelines

    inputs = set().union(*(pipeline.inputs() for pipeline in register_pipelines().values()))
    return sorted(name.removeprefix("params:") for name in inputs if name.startswith("params:"))


def _groups(parameters: dict[str, Any]) -> Iterator[str]:
    """Yield `pipeline.group` for every second-level key, and bare first-level values."""
    for pipeline, groups in parameters.items():
        if isinstance(groups, dict):
            yield from (f"{pipeline}.{group}" for group in groups)
        else:
            yield pipeline
