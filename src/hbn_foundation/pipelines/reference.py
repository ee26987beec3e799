"""The reference of all parameters, read from the nodes' own annotations."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from kedro.pipeline import Pipeline
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hbn_foundation.params import Params
from hbn_foundation.training.supervision.faults import KINDS

REQUIRED = "required"

HEAD = """# Parameters

Every parameter of every node: the value in force, the default of the code where that is another
one, and the meaning. `<data>` is the folder of the data set, `data/simulated` for the simulated
release. Give another value in
`conf/<environment>/parameters.yml`, or for one run by
`kedro run --params "foundation.trainer.epochs=30"`.

`foundation.fault`, nothing by default, orders a fault for trying out the supervision of training:
`hang@12` hangs at the twelfth step on any device but the CPU, each time; `crash@40*1` crashes once,
on any device. Kinds: {kinds}.

`hbn-foundation parameters --pipeline challenge1 --env factors` prints what is in force there, with
your own `conf/local`.
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
            for name, hint in zip(node.inputs, hints.values(), strict=False):
                is_model = isinstance(hint, type) and issubclass(hint, Params)
                if name.startswith("params:") and is_model:
                    groups[name.removeprefix("params:")] = hint
    return dict(sorted(groups.items()))


def reference_page(groups: dict[str, type[Params]], values: dict[str, dict[str, Any]]) -> str:
    """Write the page: one section per group, one row per parameter.

    Parameters
    ----------
    groups
        As `parameter_groups` gives them.
    values
        Parameters of each environment by its name, that of all others first.
    """
    sections = [HEAD.format(kinds=", ".join(KINDS))]
    (_, first), *others = values.items()
    for name, model in groups.items():
        rows = []
        given = {env: _configured(model, name, value) for env, value in others}
        for key, value, default, meaning in _rows(model, name, first):
            differing = [
                f"{env}: {_written(of_env[key])}"
                for env, of_env in given.items()
                if of_env[key] != value
            ]
            shown = "; ".join([_written(value), *differing])
            own = "" if default == value else _written(default)
            rows.append(f"| `{key}` | {shown} | {own} | {meaning} |")
        doc = (model.__doc__ or "").strip().splitlines()[0]
        head = ["| parameter | in force | default | meaning |", "|---|---|---|---|"]
        sections.append(f"## {name}\n\n{doc}\n\n" + "\n".join([*head, *rows]) + "\n")
    return "\n".join(sections)


def values_text(groups: dict[str, type[Params]], values: dict[str, Any]) -> str:
    """Write what is in force, a line per parameter: name, value, default, meaning.

    Parameters
    ----------
    groups
        As `parameter_groups` gives them.
    values
        Parameters of one environment.
    """
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
        default = (
            REQUIRED
            if field.is_required()
            else _as_data(field.get_default(call_default_factory=True))
        )
        yield key, configured[key], default, _cell(field)


def _configured(model: type[Params], group: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a group after validation, by dotted name; None below an optional group."""
    for part in group.split("."):
        values = values.get(part, {})
    return {key: _value(model.model_validate(values), key) for key, _ in _fields(model)}


def _value(group: Any, key: str) -> Any:
    for part in key.split("."):
        group = getattr(group, part, None)
    return _as_data(group)


def _as_data(value: Any) -> Any:
    """Turn models and tuples into what YAML has."""
    if isinstance(value, BaseModel):
        return {name: _as_data(part) for name, part in value}
    if isinstance(value, tuple | list):
        return [_as_data(part) for part in value]
    if isinstance(value, dict):
        return {name: _as_data(part) for name, part in value.items()}
    return value


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


def _written(value: Any) -> str:
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


def _cell(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")
