"""The base of every parameter model."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """A frozen group of parameters; an unknown key is an error.

    Each room declares its own groups beside the code that uses them; YAML only gives values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
