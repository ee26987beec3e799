"""Predict the spectra of a whole recording from one corrupted window of it.

The target is the mean tangent of all windows of the window's recording, as principal coordinates.
What varies within a recording cannot be predicted and is averaged out; what is constant, which is
of the subject and the task, must be found by the encoder in two seconds.

Trivial predictors: copying the corrupted window's own coordinates, and the training mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from hbn_foundation.errors import UserError
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.training.augmentation import hide_block, random_gain, white_noise
from hbn_foundation.training.objectives.base import (
    NUMBER,
    Context,
    Objective,
    StepOutput,
    TrainingWindows,
    check_tokens,
    whole_tangents,
)
from hbn_foundation.training.objectives.token_targets import BandTargets
from hbn_foundation.training.params import ObjectiveParams

MIN_WINDOWS = 5
"""A recording with fewer is left out: its mean would be the windows themselves."""


class RecordingSpectra(Objective):
    """One linear map, shared by the bands, from each band token to its recording's coordinates.

    Raises
    ------
    UserError
        When the encoder has no band tokens.
    """

    recordings: Tensor
    means: Tensor

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        check_tokens(params, encoder, ["band"])
        assert encoder.band is not None
        self.params = params
        self.bands = BandTargets(encoder.band, params.n_coordinates)
        self.decode = nn.Linear(encoder.config.hidden_dim, self.bands.n_out)
        # of each window, by its number: a row of the means
        self.register_buffer("recordings", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("means", torch.zeros(0), persistent=False)

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Leave out recordings with too few windows for a mean."""
        count = windows.groupby("row")["row"].transform("size")
        if len(count) and count.max() < MIN_WINDOWS:
            raise UserError(
                f"objective: recording_spectra needs {MIN_WINDOWS} windows of a recording, but "
                f"none has more than {count.max()}; cut shorter windows, or take band_completion"
            )
        kept = super().prepare(windows[count >= MIN_WINDOWS].reset_index(drop=True), context)
        self.recordings = torch.zeros(self.n_numbers, dtype=torch.int64)
        numbers = torch.tensor(kept[NUMBER].tolist())
        self.recordings[numbers] = torch.tensor(pd.factorize(kept["row"])[0])
        return kept

    def fit(self, encoder: Encoder, on: TrainingWindows) -> None:
        """Fit the targets' coordinates on training windows."""
        self.bands.fit(on.statistics["band_covariance"])

    @torch.no_grad()
    def begin(self, encoder: Encoder, batches: Iterable[Any], positions: Tensor) -> None:
        """Average the coordinates of each recording, over its whole windows as they are."""
        n_recordings = int(self.recordings.max()) + 1
        # on the CPU: not every device adds in double precision
        sums = torch.zeros(n_recordings, *self.bands.shape, dtype=torch.float64)
        counts = torch.zeros(n_recordings, dtype=torch.float64)
        for numbers, tangents, usable in whole_tangents(encoder, batches, positions):
            coordinates, kept = self.bands.project(tangents).cpu().double(), usable.cpu()
            recordings = self.recordings.cpu()[numbers[kept]]
            sums.index_add_(0, recordings, coordinates[kept])
            counts += torch.bincount(recordings, minlength=n_recordings)
        means = sums / counts.clamp_min(1)[:, None, None]
        self.means = means.float().to(positions.device)
        self.recordings = self.recordings.to(positions.device)

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Mean squared error of the recording's coordinates."""
        assert encoder.band is not None
        params, mask = self.params, batch.mask
        spread = params.gain if self.training else 0.0
        signals, log_gains = random_gain(batch.signals, spread, params.gain_probability)
        target = self.means[self.recordings[batch.target]]
        target = target + self.bands.of_gain(log_gains, encoder.band.scale)
        seen_mask = hide_block(mask, positions, params)
        noisy = white_noise(signals, params.noise, params.noise_probability)
        inputs = encoder.inputs(noisy, positions, seen_mask)
        mixed = encoder.mix(torch.cat(list(encoder.embed(inputs).values()), 1))
        predicted = self.decode(mixed[:, : self.bands.n_tokens]).float()
        loss = (predicted - target).square().mean()
        copied = self.bands.project(inputs["band"])
        scores = {
            "recording_loss": loss.detach(),
            "trivial_copy": (copied - target).square().mean(),
            "trivial_recording_mean": target.square().mean(),
        }
        return StepOutput(loss, len(signals), scores)
