"""Predict the slow features of the windows around from one corrupted window.

The linear slow features of a window are noisy; their mean over the windows around, without the
window itself, is less so and says what state the recording is in. A window's slow outputs are
trained to tell it: what in the window is noise cannot help, and what drifts without being in the
linear slow features is not asked for.

Trivial predictors: the mean of the recording, which is zero, and the window's own linear slow
features shrunk to the share of them that is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.training.augmentation import augment
from hbn_foundation.training.objectives.base import NUMBER, Context, StepOutput, whole_tangents
from hbn_foundation.training.objectives.slow_features import (
    SlowFeatures,
    drifts,
    relative_tangents,
    signal_share,
)
from hbn_foundation.training.slow_features import near_graph


class SlowPrediction(SlowFeatures):
    """Mean squared error of the slow outputs, from the slow features of the windows around.

    Those are relative to the mean of the recording, or of the subject's recordings (`across`).
    """

    around: Tensor

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.register_buffer("around", torch.zeros(0, 0), persistent=False)

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Leave out windows without another nearby, and number the others."""
        table = super().prepare(windows, context)
        graph = near_graph(table["row"], table["onset"], self.params.lag_seconds)
        table = table[np.diff(graph.indptr) > 0].reset_index(drop=True)
        of = "row" if self.params.across == "recording" else "subject"
        self.table = table[[NUMBER, "row", "onset"]].assign(group=table[of])
        return table

    @torch.no_grad()
    def begin(self, encoder: Encoder, batches: Iterable[Any], positions: Tensor) -> None:
        """Average linear slow features over the windows around each, without itself."""
        assert encoder.slow is not None
        numbers, rows, group = (
            self.table[name].to_numpy(copy=True) for name in (NUMBER, "row", "group")
        )
        own = torch.full((self.n_numbers, encoder.config.n_slow), torch.nan)
        for places, tangents, usable in whole_tangents(encoder, batches, positions):
            found = encoder.slow.alone(tangents)
            own[places] = found.masked_fill(~usable[:, None], torch.nan).cpu()
        features = own.double().numpy()[numbers]
        features -= pd.DataFrame(features).groupby(group).transform("mean").to_numpy()
        known = ~np.isnan(features)
        near = near_graph(rows, self.table["onset"], self.params.lag_seconds)
        sums, counts = near @ np.where(known, features, 0.0), near @ known.astype(float)
        around = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        self.around = torch.full((self.n_numbers, 2, features.shape[1]), torch.nan)
        self.around[numbers] = torch.from_numpy(np.stack([around, features], 1)).float()
        self.around = self.around.to(positions.device)

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Compare slow outputs with those around."""
        signals, mask = batch.signals, batch.mask
        if self.training:
            signals, mask = augment(signals, mask, positions, self.params)
        around, own = self.around[batch.target].unbind(1)
        outputs = encoder.slow_outputs(
            relative_tangents(encoder, signals, positions, mask, batch.places)
        )
        with torch.autocast(signals.device.type, enabled=False):
            known = ~(around + own).isnan().any(1)
            around, own, outputs, places = (
                part[known].float() for part in (around, own, outputs, batch.places)
            )
            # of a batch without any usable window 0, not NaN
            loss = (outputs - around).square().sum() / max(outputs.numel(), 1)
        scores = {
            "slow_prediction_loss": loss.detach(),
            "trivial_slow_mean": around.square().mean(),
            "trivial_linear": (own * signal_share(self.slowness) - around).square().mean(),
            **drifts(outputs, places),
        }
        return StepOutput(loss, len(signals), scores)
