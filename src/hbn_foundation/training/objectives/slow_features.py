"""Outputs that change little between windows near each other, relative to their variance.

Slow feature analysis (Wiskott and Sejnowski 2002) through the trunk, from raw windows. The variance
is that within recordings: traits, which are constant there, are no slow outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.progress import say
from hbn_foundation.scores import DRIFT
from hbn_foundation.signals.context import SEQUENCE
from hbn_foundation.training.augmentation import augment
from hbn_foundation.training.objectives.base import Context, Objective, StepOutput, TrainingWindows
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.slow_features import EPSILON, WHITE, LinearSlowFeatures

RIDGE = 1e-3  # added to the variance of each output, which is one
MIN_WINDOWS = 4  # of a recording


class SlowFeatures(Objective):
    """The slowness of the encoder's outputs, the first ones slowest.

    A batch has stretches of several recordings, whole sequences of the table that `prepare` gives.
    The outputs are whitened within recordings by the loss itself; the loss is the mean of that of
    the first output, the first two, …, so that they are ordered.
    """

    whole_batches = True
    slowness: Tensor

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        if encoder.slow is None:
            raise UserError(
                f"objective.name: {params.name} trains the slow outputs of band tokens, but "
                f"encoder.n_slow is {encoder.config.n_slow} and encoder.tokens is "
                f"{list(encoder.config.tokens)}; set encoder.n_slow, for example to 4"
            )
        self.params = params
        self.seconds = encoder.n_samples / encoder.sfreq
        self.register_buffer("slowness", torch.full((encoder.config.n_slow,), WHITE))

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Deal each recording's windows, two that follow each other at a time, into sequences.

        Recordings with fewer windows than four are left out.
        """
        table = windows.sort_values(["row", "onset"], kind="stable", ignore_index=True)
        count = table.groupby("row")["row"].transform("size")
        if n_short := table.loc[count < MIN_WINDOWS, "row"].nunique():
            say(
                f"objective: {self.params.name} leaves out {count_of(n_short, 'recording')} of "
                f"{table['row'].nunique()}, which have fewer than four windows"
            )
        table = table[count >= MIN_WINDOWS].reset_index(drop=True)
        apart = table.groupby("row")["onset"].diff().min()
        longest = table.groupby("row")["onset"].agg(np.ptp).max()
        jitter = self.params.jitter_seconds
        if apart - 2 * jitter < self.seconds - 1e-6:
            raise UserError(
                f"objective: {self.params.name} needs windows side by side; windows of "
                f"{self.seconds:g} s begin {apart:g} s apart (ingestion.windows.stride), moved by "
                f"{jitter:g} s at most (objective.jitter_seconds), and are alike for what they "
                "share"
            )
        if table.empty:
            raise UserError(
                f"objective: {self.params.name} needs four windows of a recording, and none has as "
                "many; cut shorter windows"
            )
        if self.params.across == "subject":  # whose recordings vary, however short they are
            longest = np.inf
        if not apart <= self.params.lag_seconds + EPSILON < longest:
            raise UserError(
                f"objective.lag_seconds: {self.params.lag_seconds:g}, but windows of a recording "
                f"begin {apart:g} to {longest:g} s apart; expected the first at least, and less "
                "than the second"
            )
        count = table.groupby("row")["row"].transform("size")
        of = table["row" if self.params.across == "recording" else "subject"]
        n_pieces = -(-count // self.params.windows_per_recording)
        n_pieces = n_pieces.groupby(of).transform("max")  # a share of each recording in each piece
        piece = table.groupby("row").cumcount() // 2 % n_pieces
        table[SEQUENCE] = table.groupby([of, piece]).ngroup()
        table = table.sort_values([SEQUENCE, "row", "onset"], kind="stable", ignore_index=True)
        return super().prepare(table.assign(part=table["row"], tile=1), context)

    def fit(self, encoder: Encoder, on: TrainingWindows) -> None:
        """Begin at the linear slow features of the training windows."""
        assert encoder.band is not None
        assert encoder.slow is not None
        tangents, places = [], []
        for batch in on.batches:
            usable = batch.mask.any(-1)
            found = encoder.band.tangents(batch.signals, on.positions, batch.mask)
            tangents.append(found[usable].flatten(1).numpy())
            places.append(batch.places[usable].numpy())
        sequence, part, onset, _ = np.concatenate(places).T
        n_slow, n_linear = encoder.config.n_slow, len(encoder.slow.weight)
        model = LinearSlowFeatures(n_linear, self.params.lag_seconds)
        # pieces of a recording have neighbours in each other
        groups = part if self.params.across == "recording" else sequence
        model.fit(np.concatenate(tangents), recordings=part, onsets=onset, groups=groups)
        # the outputs' mean variance is one
        weights = model.weights_ / np.sqrt(np.square(model.weights_[:n_slow]).mean().clip(1e-12))
        scaled = (model.components_ * weights).T
        weight, bias = (torch.from_numpy(x).float() for x in (scaled, -scaled @ model.mean_))
        self.slowness.copy_(torch.from_numpy(model.slowness_[:n_slow]))
        encoder.slow.weight[: len(weight)] = weight
        encoder.slow.bias[: len(bias)] = bias
        # relative to the recording, and the share of it that is not noise
        encoder.slow.gain.copy_(signal_share(self.slowness))

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Slowness of the outputs, beside that of the linear method and of white noise."""
        assert encoder.slow is not None
        signals, mask, places = batch.signals, batch.mask, batch.places
        if self.training:
            signals, mask = augment(signals, mask, positions, self.params)
        tangents = relative_tangents(encoder, signals, positions, mask, places)
        outputs = encoder.slow_outputs(tangents)
        lag, detrend = self.params.lag_seconds, self.params.detrend
        loss = slowness(outputs, places, lag, detrend)
        with torch.no_grad():
            straight = encoder.slow.alone(tangents)
            linear = slowness(straight, places, lag, detrend)
        scores = {
            "slow_loss": loss.detach(),
            "trivial_linear": linear,
            "trivial_white_noise": torch.full_like(linear, WHITE),
            **drifts(outputs, places),
        }
        return StepOutput(loss, len(signals), scores)


def signal_share(slowness: Tensor) -> Tensor:
    """Compute the share of the variance that is no white noise, of a slowness."""
    return (1 - slowness / WHITE).clip(0.0)


def relative_tangents(
    encoder: Encoder, signals: Tensor, positions: Tensor, mask: Tensor, places: Tensor
) -> Tensor:
    """Band tangents (B, bands, 190) minus their mean over each sequence of `PLACES` (B, 4)."""
    assert encoder.band is not None
    tangents = encoder.band.tangents(signals, positions, mask)
    return _centred(tangents.flatten(1), places[:, 0].to(tangents)).view_as(tangents)


def slowness(outputs: Tensor, places: Tensor, lag_seconds: float, detrend: bool = False) -> Tensor:
    """Slowness of outputs (B, d) of windows at `PLACES` (B, 4), which are ordered by it.

    The mean over k of trace(C⁻¹ D) / k of the first k outputs, where C is their covariance within
    sequences and D that of differences between windows of a recording that are at most
    `lag_seconds` apart. With `detrend` the linear trend of each recording is taken away before.
    """
    sequence, part, onset, _ = places.to(outputs.device).float().T
    near = (sequence[:, None] == sequence) & (part[:, None] == part)
    near = near & ((onset[:, None] - onset).abs() <= lag_seconds + 1e-3)
    near = near & torch.ones_like(near).triu(1)
    with torch.autocast(outputs.device.type, enabled=False):
        outputs = outputs.float()
        if detrend:
            outputs = outputs - _trend(outputs, part, onset)
        apart = _centred(outputs, sequence)
        within = apart.T @ apart / len(outputs)
        # sum over pairs of (a − b)(a − b)ᵀ, by the degrees of the windows
        pairs = near.float()
        degree = pairs.sum(0) + pairs.sum(1)
        cross = outputs.T @ pairs @ outputs
        changes = outputs.T @ (degree[:, None] * outputs) - cross - cross.T
        changes = changes / pairs.sum().clamp_min(1)
        scale = within.diagonal().clamp_min(1e-12).sqrt()
        within, changes = (one / (scale[:, None] * scale) for one in (within, changes))
        within = within + RIDGE * torch.eye(len(within), device=within.device)
        losses = [
            torch.linalg.solve(within[:k, :k], changes[:k, :k]).diagonal().mean()
            for k in range(1, len(within) + 1)
        ]
    return torch.stack(losses).mean()


def drifts(outputs: Tensor, places: Tensor) -> dict[str, Tensor]:
    """Share of the variance of each of outputs (B, d) in recordings that time alone predicts.

    That is by a linear trend of each recording.
    """
    _, part, onset, _ = places.to(outputs.device).float().T
    outputs = outputs.detach().float()
    explained, all_of_it = _trend(outputs, part, onset), _centred(outputs, part)
    shares = explained.square().sum(0) / all_of_it.square().sum(0).clamp_min(1e-12)
    return {f"{DRIFT}{number}": share for number, share in enumerate(shares, start=1)}


def _centred(values: Tensor, group: Tensor) -> Tensor:
    """Values (B, d) relative to the mean of their group (B,)."""
    same = (group[:, None] == group).float()
    return values - same @ values / same.sum(1, keepdim=True)


def _trend(values: Tensor, group: Tensor, onset: Tensor) -> Tensor:
    """Linear trends in time (B, d) of values (B, d) in their groups (B,), around zero."""
    same = (group[:, None] == group).float()
    time = _centred(onset[:, None], group)
    slope = same @ (time * _centred(values, group)) / (same @ time.square()).clamp_min(1e-9)
    return slope * time
