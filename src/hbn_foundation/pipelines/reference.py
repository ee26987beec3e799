"""The reference of all parameters, read from the nodes' own annotations."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from kedro.pipeline import Pipeline
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from hbn_foundation.params import Params


def parameter_groups(pipelines: dict[str, Pipeline]) -> dict[str, type[Params]]:
    """Return the model of each parameter group, by its dotted name.

    A group is an input `params:<name>` of a node that is annotated with a `Params` model.
    """
    groups: dict[str, type[Params]] = {}
    for node in (node for pipeline in pipelines.values() for node in pipeline.nodes):
        hints = get_type_hints(node.func)
        hints.pop("return", None)
        for name, hint in zip(node.inputs, hints.values(), strict=False):
            is_model = isinstance(hint, type) and issubclass(hint, Params)
            if name.startswith("params:") and is_model:
                groups[name.removeprefix("params:")] = hint
    return dict(sorted(groups.items()))


def values_text(groups: dict[str, type[Params]], values: dict[str, Any]) -> str:
    """Write what is in force in one environment, a line per parameter."""
    lines = []
    for name, model in groups.items():
        for key, value, default, meaning in _rows(model, name, values):
            own = "default" if default == value else f"default: {_plain(default)}"
            lines.append(f"{name}.{key} = {_plain(value)} ({own})  {meaning}")
    return "\n".join(lines) + "\n"


def _rows(
    model: type[Params], group: str, values: dict[str, Any]
) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, value in force, default and meaning of each parameter of a group."""
    configured = _configured(model, group, values)
    for key, field in _fields(model):
        default: Any = "required"
        if not field.is_required():
            default = to_jsonable_python(field.get_default(call_default_factory=True))
        yield key, configured[key], default, " ".join((field.description or "").split())


def _configured(model: type[Params], group: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a group after validation by dotted name; None below optional groups and lists."""
    for part in group.split("."):
        values = values.get(part, {})
    found = to_jsonable_python(model.model_validate(values))
    return {key: _value(found, key) for key, _ in _fields(model)}


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # a group may be optional
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None or (not field.is_required() and field.get_default() is None):
            yield f"{prefix}{name}", field
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}.")


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)
