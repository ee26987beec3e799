"""The base of every parameter model."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from hbn_foundation.errors import UserError

#: Former names of parameters. In YAML a former name fails with one line; checkpoints are read by
#: `current_names`; what names a run or a job is written by `former_names`, so that keys stay.
RENAMED = {
    "accumulate": "accumulate_grad_batches",
    "floor": "min_lr_ratio",
    "hide_least": "min_hidden",
    "hide_most": "max_hidden",
    "keep_last": "checkpoint_keep",
}
#: The groups that these parameters are in.
RENAMED_IN = ("objective", "rates", "regularisation", "trainer")
_AUGMENTATION = {
    "use_augmentation": True,
    "gain_probability": 1.0,
    "noise_probability": 1.0,
    "jitter_probability": 1.0,
}
ALONE = {"of": "window", "recentre": True, "seconds": 0.0, "running": False, "denoise": False}
SEQUENCE = {"n_layers": 1, "n_heads": 8, "dropout": 0.1, "share": 0.8, "max_windows": 256}
#: Parameters that runs and jobs were first named without, by group, with the value that was meant.
#: What has this value is left out of such names, so that keys stay.
ADDED: dict[str, dict[str, Any]] = {
    "": {"keep_head": False, "context": ALONE, "sequence_encoder": SEQUENCE},
    "context": {"denoise": False},
    "evaluation": {"context": ALONE, "stratify_scores_by": None},
    "baselines": {"stratify_scores_by": None},
    "label": {"values": None, "where": {}, "windows": "blocks", "margin": 0.0, "stride": None,
              "offset": 0.0},
    "encoder": {"n_slow": 0, "kind": "own", "target": None, "kwargs": {}, "weights": None,
                "adapter": None},
    "objective": _AUGMENTATION | {"lag_seconds": 10.0, "windows_per_recording": 48,
                                  "across": "recording", "detrend": False, "beside": {}},
    "regularisation": _AUGMENTATION | {"mixup_probability": 1.0},
    "phases": {"schedule": None},
    "plan": {"phase2_epochs": None},
    "trainer": {"optimizer": "adamw", "optimizer_options": {}},
}  # fmt: skip
#: Parameters that there are no more, by group, with the value that they had by default.
REMOVED: dict[str, dict[str, Any]] = {
    "plan": {"ratio_by": "blocks"},
    "objective": {"near_seconds": 10.0, "far_seconds": 30.0},
    "regularisation": {"l2_sp": 0.0},
}


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested groups of parameters with the names of today."""
    found: dict[str, Any] = _renamed(values, RENAMED, {})
    for name, removed in REMOVED.items():
        for group in _groups(found, name):
            for key in removed:
                group.pop(key, None)
    return found


def former_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested groups of parameters with the names that runs and jobs are identified by."""
    found: dict[str, Any] = _renamed(values, {new: old for old, new in RENAMED.items()}, ADDED)
    for name in ("objective", "regularisation"):
        for group in _groups(found, name):
            group.update(REMOVED[name])
    for plan in _groups(found, "plan"):
        # shares were of blocks, and at least: where one is used, the result is another now
        if plan.get("strategy") != "partial" and plan.get("unfreeze_ratio") is None:
            plan.update(REMOVED["plan"])
        if plan.get("unfreeze_backbone_epoch") is not None:
            plan["unfreeze_backbone_epoch"] -= 1  # it was the number of epochs before
    return found


def _groups(values: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the groups of a name, wherever in nested groups they are."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from [value] if key == name else _groups(value, name)


def _renamed(
    values: Any,
    names: Mapping[str, str],
    left_out: Mapping[str, Mapping[str, Any]],
    group: str = "",
) -> Any:
    """Rename keys in nested groups, and leave out those that have a value of `left_out`."""
    if isinstance(values, list | tuple):
        return [_renamed(part, names, left_out, group) for part in values]
    if not isinstance(values, Mapping):
        return values
    out = left_out.get(group, {})
    return {
        names.get(key, key) if group in RENAMED_IN else key: _renamed(value, names, left_out, key)
        for key, value in values.items()
        if key not in out or value != out[key]
    }


class Params(BaseModel):
    """A frozen group of parameters; an unknown key is an error.

    Each room declares its own groups beside the code that uses them; YAML only gives values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # mappings have no hash of their own

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse yes and no where a number is meant; pydantic would take them for 1 and 0."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and "bool" not in str(annotation):
            raise ValueError("expected no true or false here")
        return value

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate values from YAML.

        Raises
        ------
        UserError
            One line with the first wrong key, its value and what is expected.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise UserError(_first_mistake(cls, error)) from None


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested groups by dotted names, as on a command line: `trainer.epochs`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _annotation(group: type[BaseModel], name: str) -> Any:
    """Return the type of a field, or of any other key where a group allows those."""
    if name in group.model_fields:
        return group.model_fields[name].annotation
    allowed = get_type_hints(group).get("__pydantic_extra__")
    return get_args(allowed)[-1] if get_args(allowed) else None


def _first_mistake(group: type[BaseModel], error: ValidationError) -> str:
    """Word the first of pydantic's findings as `key=value: what is expected`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("model_type", "model_attributes_type"):
            message = f"expected a group of parameters, found {first['input']!r}"
        elif not isinstance(first["input"], dict | BaseModel):
            return f"{key}={first['input']!r}: {message}"
        return f"{key}: {message}" if key else message
    for part in first["loc"][:-1]:
        inner = _annotation(group, str(part))
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            group = inner
    names = list(group.model_fields)
    new = RENAMED.get(str(first["loc"][-1]))
    if new in names:
        return f"{key}={first['input']!r}: this parameter is now called {new}"
    close = get_close_matches(str(first["loc"][-1]), names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
    return f"{key}={first['input']!r}: no such parameter; {hint}"
