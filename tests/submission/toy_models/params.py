from typing import Literal, Self

from pydantic import Field, model_validator

from hbn_foundation.params import Params

Kind = Literal["mean", "spread"]


class PoolParams(Params):
    """How samples become one number."""

    kinds: tuple[Kind, ...] = Field(("mean",), description="Which numbers.")
    factor: float = Field(1.0, description="What they are multiplied by.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.kinds:
            raise ValueError("no kinds")
        return self

    @property
    def n_numbers(self) -> int:
        """How many numbers."""
        return len(self.kinds)


class ModelParams(PoolParams):
    """A whole model."""

    pool: PoolParams = Field(PoolParams(), description="Of each channel.")
    width: int | None = Field(8, description="Of the hidden layer.", ge=1)
