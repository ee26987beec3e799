"""Make the objective that the parameters name."""

from __future__ import annotations

from typing import NoReturn

from hbn_foundation.errors import UserError
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.external import ExternalEncoder
from hbn_foundation.training.objectives.base import Objective
from hbn_foundation.training.objectives.masked import FAMILIES, Masked
from hbn_foundation.training.objectives.recording_spectra import RecordingSpectra
from hbn_foundation.training.objectives.relative_positioning import RelativePositioning
from hbn_foundation.training.objectives.slow_features import SlowFeatures
from hbn_foundation.training.objectives.task_classification import TaskClassification
from hbn_foundation.training.params import OF_ANY_ENCODER, UNTRAINED, ObjectiveParams


class Untrained(Objective):
    """No objective: the encoder's weights stay as they are."""

    def __init__(self, params: ObjectiveParams) -> None:
        super().__init__()
        self.params = params

    def forward(self, *_: object) -> NoReturn:
        """Refuse: there is no loss."""
        raise NotImplementedError("nothing is trained")


def make_objective(params: ObjectiveParams, encoder: Encoder) -> Objective:
    """Make the objective for an encoder.

    Raises
    ------
    UserError
        When the encoder lacks the tokens that the objective is about.
    """
    params = params.in_use
    if params.name == UNTRAINED:
        return Untrained(params)
    if isinstance(encoder, ExternalEncoder) and params.name not in OF_ANY_ENCODER:
        raise UserError(
            f"objective.name={params.name}: it is about tokens that an external encoder has not; "
            f"expected one of {', '.join(OF_ANY_ENCODER)}"
        )
    if params.name in FAMILIES:
        return Masked(params, encoder)
    if params.name == "slow_features":
        return SlowFeatures(params, encoder)
    if params.name == "recording_spectra":
        return RecordingSpectra(params, encoder)
    if params.name == "relative_positioning":
        return RelativePositioning(params, encoder)
    return TaskClassification(params, encoder)
