"""The reference of all parameters, read from the nodes' own annotations."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from kedro.pipeline import Pipeline
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hbn_foundation.params import Params
from hbn_foundation.training.supervision.faults import KINDS

HEAD = """# Parameters

Every parameter of every node, its default and its meaning. Give another value in
`conf/<environment>/parameters.yml`, or for one run by
`kedro run --params "foundation.trainer.epochs=30"`.

`foundation.fault`, nothing by default, orders a fault for trying out the supervision of training:
`hang@12` hangs at the twelfth step on any device but the CPU, each time; `crash@40*1` crashes once,
on any device. Kinds: {kinds}.

This page is written by `hbn-foundation parameters > docs/parameters.md`.
"""


def parameter_groups(pipelines: dict[str, Pipeline]) -> dict[str, type[Params]]:
    """Return the model of each parameter group, by its dotted name.

    Parameters
    ----------
    pipelines
        As registered; a group is an input `params:<name>` annotated with a `Params` model.
    """
    groups: dict[str, type[Params]] = {}
    for pipeline in pipelines.values():
        for node in pipeline.nodes:
            hints = get_type_hints(node.func)
            hints.pop("return", None)
            for name, hint in zip(node.inputs, hints.values(), strict=True):
                is_model = isinstance(hint, type) and issubclass(hint, Params)
                if name.startswith("params:") and is_model:
                    groups[name.removeprefix("params:")] = hint
    return dict(sorted(groups.items()))


def reference_page(groups: dict[str, type[Params]]) -> str:
    """Write the page: one section per group, one row per parameter."""
    sections = [HEAD.format(kinds=", ".join(KINDS))]
    for name, model in groups.items():
        rows = [
            f"| `{key}` | {_default(field)} | {_cell(field)} |" for key, field in _fields(model)
        ]
        doc = (model.__doc__ or "").strip().splitlines()[0]
        table = "\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows])
        sections.append(f"## {name}\n\n{doc}\n\n{table}\n")
    return "\n".join(sections)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None or (not field.is_required() and field.get_default() is None):
            yield f"{prefix}{name}", field
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, be it optional."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = [list(part) if isinstance(part, tuple) else part for part in value]
    return "`null`" if value is None else f"`{value}`"


def _cell(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")
