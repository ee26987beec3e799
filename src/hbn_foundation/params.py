"""The base of every parameter model."""

from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hbn_foundation.errors import UserError


class Params(BaseModel):
    """A frozen group of parameters; an unknown key is an error.

    Each room declares its own groups beside the code that uses them; YAML only gives values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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


def _first_mistake(group: type[BaseModel], error: ValidationError) -> str:
    """Word the first of pydantic's findings as `key=value: what is expected`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{key}={first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
    for part in first["loc"][:-1]:
        inner = group.model_fields[str(part)].annotation if part in group.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            group = inner
    names = list(group.model_fields)
    close = get_close_matches(str(first["loc"][-1]), names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
    return f"{key}={first['input']!r}: no such parameter; {hint}"
