"""Make the objective that the parameters name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.errors import UserError
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.external import ExternalEncoder
from hbn_foundation.training.objectives.base import Context, Objective, StepOutput
from hbn_foundation.training.objectives.masked import FAMILIES, Masked
from hbn_foundation.training.objectives.recording_spectra import RecordingSpectra
from hbn_foundation.training.objectives.slow_features import SlowFeatures
from hbn_foundation.training.objectives.slow_prediction import SlowPrediction
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


class Both(Objective):
    """Two objectives on the same windows, the sum of whose losses is minimised."""

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        self.params = params
        self.weights: dict[str, float] = {params.name: 1.0}
        self.weights.update((str(name), weight) for name, weight in params.beside.items())
        self.parts: dict[str, Objective] = {}
        for name in self.weights:
            alone = params.model_copy(update={"name": name, "beside": {}})
            self.parts[name] = make_objective(alone, encoder)
            self.add_module(name, self.parts[name])
        self.whole_batches = any(part.whole_batches for part in self.parts.values())

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Let one prepare what the other has prepared."""
        for part in self.parts.values():
            windows = part.prepare(windows, context)
        return windows

    def batches(self, batches: Any, windows: pd.DataFrame) -> Iterable[Any]:
        """Add what both need."""
        for part in self.parts.values():
            batches = part.batches(batches, windows)
        return batches

    def fit(self, *given: Any) -> None:
        """Fit both."""
        for part in self.parts.values():
            part.fit(*given)

    def begin(self, *given: Any) -> None:
        """Compute what both need."""
        for part in self.parts.values():
            part.begin(*given)

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Score a batch by both."""
        found = {name: part(encoder, batch, positions) for name, part in self.parts.items()}
        losses = [self.weights[name] * one.loss for name, one in found.items()]
        scores = {name: value for one in found.values() for name, value in one.scores.items()}
        return StepOutput(torch.stack(losses).sum(), len(batch.signals), scores)


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
    if params.beside:
        return Both(params, encoder)
    if params.name in FAMILIES:
        return Masked(params, encoder)
    if params.name == "slow_features":
        return SlowFeatures(params, encoder)
    if params.name == "slow_prediction":
        return SlowPrediction(params, encoder)
    if params.name == "recording_spectra":
        return RecordingSpectra(params, encoder)
    return TaskClassification(params, encoder)
