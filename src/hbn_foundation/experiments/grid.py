"""The grid: which values are axes, and every combination as typed specs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.params import GridParams
from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec, Tuning
from hbn_foundation.params import dotted
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams

Model = TypeVar("Model", bound=BaseModel)
SUBJECTS = "n_base_participants"
PATIENCE = "early_stopping_patience_target"
GROUPS = ("label", "head", "plan", "rates", "regularisation", "trainer")
BASE_NAMES = ("kind", SUBJECTS, "seed", "encoder", "objective", "trainer", "supervised")
FINETUNE_NAMES = (
    "mode", "target_data_pct", "seed_finetune", "target_share", PATIENCE,
    *(name for name in GROUPS if name != "label"),
)  # fmt: skip


class Defaults(NamedTuple):
    """Parameters that the grid does not vary, from the other pipelines."""

    encoder: EncoderParams
    objective: ObjectiveParams
    trainer: TrainerParams
    window: WindowParams
    cleaning: CleaningParams
    tuning: Tuning


def read_grid(params: GridParams) -> GridParams:
    """Read the grid's file, where one is named; errors as of `read_file`."""
    return params if params.file is None else read_file(GridParams, params.file, "sweep.grid.file")


def read_file(
    model: type[Model], path: str, parameter: str, given: Mapping[str, Any] | None = None
) -> Model:
    """Read parameters from a YAML or JSON file.

    Parameters
    ----------
    model
        Of the parameters.
    path, parameter
        The file, and the parameter that names it.
    given
        Values of what the file leaves out.

    Raises
    ------
    UserError
        When there is no such file, no mapping in it, or a value that does not fit.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{parameter}={path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping, found {type(content).__name__}")
    return _named(model, {**(given or {}), **content}, f"{path}: ")


def combinations(grid: Mapping[str, Any], which: str) -> Iterator[dict[str, Any]]:
    """Cross all axes of one half of the grid.

    Parameters
    ----------
    grid
        Nested or dotted names and their values; lists are axes. Where a parameter itself is a
        list, as encoder.tokens, a list of lists is the axis.
    which
        `base` or `finetune`.

    Yields
    ------
    dict
        A value for each dotted name.
    """
    names = BASE_NAMES if which == "base" else FINETUNE_NAMES
    flat = dict(dotted(grid))
    for name in flat:
        if name.partition(".")[0] not in names:
            known = "it is now sweep.prefix" if name == "prefix" else f"known: {', '.join(names)}"
            raise UserError(f"sweep.grid.{which}.{name}: nothing to vary has this name; {known}")
    axes: list[list[Any]] = []
    for name, value in flat.items():
        is_axis = isinstance(value, list | tuple) and (
            not _takes_lists(name, which) or any(isinstance(part, list | tuple) for part in value)
        )
        values = list(value) if is_axis else [value]
        if not values:
            raise UserError(f"sweep.grid.{which}.{name}: an axis needs a value, found none")
        axes.append(values)
    for chosen in itertools.product(*axes):
        yield dict(zip(flat, chosen, strict=True))


def _takes_lists(name: str, which: str) -> bool:
    """Tell whether a parameter is itself a list; unknown names are found out later."""
    model: Any = BaseSpec if which == "base" else FinetuneSpec
    parts = name.split(".")
    if which == "finetune" and parts[0] in GROUPS:
        parts = ["tuning", *parts]
    annotation: Any = None
    for part in parts:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        annotation = fields[part].annotation
        models = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        model = next((a for a in models if issubclass(a, BaseModel)), None)
    return "tuple" in str(annotation)


def with_values(content: dict[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Set dotted names in nested mappings, in place.

    Raises
    ------
    UserError
        When a name leads through something that is no group.
    """
    for name, value in values.items():
        *groups, last = name.split(".")
        place: Any = content
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        if not isinstance(place, dict) or (groups and last not in place):
            raise UserError(f"{where}.{name}: no such parameter")
        place[last] = value
    return content


def base_spec(
    defaults: Defaults,
    values: Mapping[str, Any],
    train: list[str],
    validation: list[str],
    data: str,
) -> BaseSpec:
    """Make the spec of a base from the defaults and one combination.

    Raises
    ------
    UserError
        Naming the value of the grid that does not fit.
    """
    varied = {name: value for name, value in values.items() if name not in (SUBJECTS, "seed")}
    kind = varied.pop("kind", "pretraining")
    content: dict[str, Any] = {
        "kind": kind,
        **{
            name: getattr(defaults, name).model_dump(mode="json")
            for name in ("encoder", "objective", "trainer", "window", "cleaning")
        },
        "supervised": _supervised(defaults.tuning),
    }
    if "seed" in values:
        content["trainer"]["seed"] = values["seed"]
        content["supervised"]["trainer"]["seed"] = values["seed"]
    with_values(content, varied, "sweep.grid.base")
    if kind != "supervised":
        content["supervised"] = None
    content |= {"train_subjects": train, "validation_subjects": validation, "data": data}
    return _named(BaseSpec, content, "sweep.grid.base.")


def _supervised(tuning: Tuning) -> dict[str, Any]:
    """Training for the label from random weights, all blocks from the first step on."""
    content = tuning.model_dump(mode="json")
    content["plan"]["strategy"] = "scratch"
    content["trainer"]["start"] = "from_scratch"
    return content


def finetune_spec(
    defaults: Defaults, values: Mapping[str, Any], fixed: Mapping[str, Any]
) -> FinetuneSpec:
    """Make the spec of a fine-tuning from the defaults and one combination.

    Parameters
    ----------
    defaults
        Of the other pipelines.
    values
        One combination.
    fixed
        `target`, `data`, `rules`, `base_hash`, `encoder`.

    Raises
    ------
    UserError
        Naming the value of the grid that does not fit.
    """
    content: dict[str, Any] = {
        "tuning": defaults.tuning.model_dump(mode="json"),
        "window": defaults.window.model_dump(mode="json"),
        **fixed,
    }
    varied = dict(values)
    if PATIENCE in varied:
        content["tuning"]["trainer"]["early_stopping_patience"] = varied.pop(PATIENCE)
    inside = {name: varied.pop(name) for name in list(varied) if name.partition(".")[0] in GROUPS}
    with_values(content["tuning"], inside, "sweep.grid.finetune")
    return _named(FinetuneSpec, {**content, **varied}, "sweep.grid.finetune.")


def _named(model: type[Model], content: dict[str, Any], where: str) -> Model:
    try:
        return model.model_validate(content)
    except UserError as error:
        raise UserError(f"{where}{error}") from None
