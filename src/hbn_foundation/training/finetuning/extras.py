"""What a fine-tuning may have beside one label and the encoder as it was pretrained."""

from __future__ import annotations

from typing import Any, NamedTuple

from hbn_foundation.models.config import MAIN
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams


class Extras(NamedTuple):
    """Further targets, added tokens, and the unit of the windows.

    Attributes
    ----------
    more_targets
        Learned beside the main one.
    tokens
        Families of tokens that the encoder must have.
    input
        How windows reach the model.
    """

    more_targets: MoreTargets = MoreTargets()
    tokens: AddedTokenParams = AddedTokenParams()
    input: InputParams = InputParams()

    def heads(self, main: HeadParams) -> dict[str, HeadParams]:
        """Return the parameters of all heads by target, the main one first."""
        return {MAIN: main} | {name: one.head for name, one in self.more_targets.chosen.items()}

    def dump(self) -> dict[str, Any]:
        """Give them as JSON values, for metadata and identities."""
        return {name: group.model_dump(mode="json") for name, group in self._asdict().items()}


PLAIN = Extras()


def extras_of(parameters: dict[str, Any]) -> Extras:
    """Read the extras of a checkpoint's parameters; one without any was made without them."""
    return Extras(
        MoreTargets(**parameters.get("more_targets", {})),
        AddedTokenParams(**parameters.get("tokens", {})),
        InputParams(**parameters.get("input", {})),
    )
