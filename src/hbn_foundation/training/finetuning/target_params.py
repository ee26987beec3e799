"""Parameters of what a fine-tuning learns beside its main target."""

from __future__ import annotations

from pydantic import ConfigDict, Field, model_validator

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.models.config import MAIN
from hbn_foundation.params import Params
from hbn_foundation.training.model_params import HeadParams


class TargetParams(Params):
    """One more target: its label, its head, its weight in the loss."""

    label: LabelParams = Field(description="What is learned.")
    head: HeadParams = Field(HeadParams(), description="The head that answers it.")
    weight: float = Field(
        1.0, description="Weight of its loss beside the main target's, which has 1; 0: none.", ge=0
    )


class MoreTargets(Params):
    """Further targets by name, learned by heads of their own on the same tokens.

    The main target alone decides which epoch is best, where that is not the loss.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, TargetParams] = Field(init=False)

    @property
    def chosen(self) -> dict[str, TargetParams]:
        """Those with a weight."""
        given = self.__pydantic_extra__ or {}
        return {name: target for name, target in given.items() if target.weight > 0}

    @model_validator(mode="after")
    def _names_are_free(self) -> MoreTargets:
        for name in self.__pydantic_extra__ or {}:
            if name == MAIN or not name.isidentifier():
                raise ValueError(f"{name!r} is no name for a further target")
        return self
