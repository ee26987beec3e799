"""Classify whether two windows of a recording are near each other or far apart.

Method: relative positioning, Banville et al. 2021.

Chance is exactly known: half of the pairs are near, so a predictor that has learned nothing scores
ln 2 = .693 and 50 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.errors import UserError
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training.augmentation import augment
from hbn_foundation.training.objectives.base import Context, Objective, StepOutput
from hbn_foundation.training.params import ObjectiveParams


def onset_samples(windows: pd.DataFrame, sfreq: float) -> np.ndarray:
    """Onsets of windows (N,) in real time, in samples: across a gap, starts are too close."""
    return np.round(windows["onset"].to_numpy() * sfreq).astype(np.int64)


class PairBatches:
    """Pair each window of plain batches with another one of the same recording.

    Of signals (2B, C, T) and masks (2B, C) the first half are the anchors, the second their
    partners; `target` (B,) is 1 where the two are near. Half of each batch gets a near one; which
    half, and which partner, depends on the seed and the epoch of the plain batches. `starts_of` has
    for each recording (row) the sorted starts of all its windows and their onsets in real time,
    both in samples: from these the partners come. Near partners start at most `near`, far ones at
    least `far` samples of real time away. With a `shuffle_seed`, each window's label is permuted
    once for all epochs.
    """

    def __init__(
        self,
        batches: Any,
        windows: pd.DataFrame,
        starts_of: dict[int, tuple[np.ndarray, np.ndarray]],
        near: int,
        far: int,
        shuffle_seed: int | None,
    ) -> None:
        self.plain = batches
        self.rows = windows["row"].to_numpy()
        self.onsets = onset_samples(windows, batches.reader.store.sfreq)
        self.starts_of = starts_of
        self.near, self.far = near, far
        self.control: np.ndarray | None = None
        if shuffle_seed is not None:
            random = np.random.default_rng(shuffle_seed)
            self.control = random.permutation(np.arange(len(windows)) % 2)

    def __len__(self) -> int:
        return len(self.plain)

    def partners(
        self, index: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a partner's start (B,) and whether it is near (B,) for each window of a batch."""
        near = random.permutation(np.arange(len(index)) % 2)
        chosen = np.empty(len(index), dtype=np.int64)
        for place, (window, is_near) in enumerate(zip(index, near, strict=True)):
            others, onsets = self.starts_of[int(self.rows[window])]
            distance = np.abs(onsets - self.onsets[window])
            suits = (distance > 0) & (distance <= self.near) if is_near else distance >= self.far
            chosen[place] = random.choice(others[suits])
        return chosen, near

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng([self.plain.seed, self.plain.epoch, 1])
        reader = self.plain.reader
        for batch in self.plain:
            index = batch.index.numpy()
            partner, near = self.partners(index, random)
            signals, mask = reader.read_scaled(self.rows[index], partner)
            labels = near if self.control is None else self.control[index]
            yield replace(
                batch,
                signals=torch.cat([batch.signals, signals]),
                mask=torch.cat([batch.mask, mask]),
                target=torch.as_tensor(labels, dtype=torch.float32),
            )


class RelativePositioning(Objective):
    """Classify pairs as near or far by the absolute difference of their features."""

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        self.params = params
        self.head = nn.Linear(encoder.n_features, 1)
        self.near = self.far = 0
        self.starts_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.shuffle_seed: int | None = None

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Keep the windows that have a near and a far partner in their recording.

        Those that are dropped stay partners of others: what lies in the middle of a short
        recording is far from nothing, but near to much.
        """
        self.near = round(self.params.near_seconds * context.sfreq)
        self.far = round(self.params.far_seconds * context.sfreq)
        self.shuffle_seed = context.seed if self.params.shuffle_labels else None
        usable = np.zeros(len(windows), dtype=bool)
        rows, starts = windows["row"].to_numpy(), windows["start"].to_numpy()
        onsets = onset_samples(windows, context.sfreq)
        for places in windows.groupby("row").indices.values():
            own = onsets[places]
            ordered = np.sort(own)
            self.starts_of[int(rows[places[0]])] = np.sort(starts[places]), ordered
            is_near = (
                np.searchsorted(ordered, own + self.near, side="right")
                - np.searchsorted(ordered, own - self.near)
                > 1
            )
            is_far = (ordered[0] <= own - self.far) | (ordered[-1] >= own + self.far)
            usable[places] = is_near & is_far
        if not usable.any():
            raise UserError(
                f"objective: relative_positioning finds no window with another at most "
                f"near_seconds {self.params.near_seconds:g} and one at least far_seconds "
                f"{self.params.far_seconds:g} away in the same recording"
            )
        return windows[usable].reset_index(drop=True)

    def batches(self, batches: Any, windows: pd.DataFrame) -> Iterable[Batch]:
        """Pair the windows."""
        return PairBatches(batches, windows, self.starts_of, self.near, self.far, self.shuffle_seed)

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Binary cross-entropy of near against far."""
        signals, mask = batch.signals, batch.mask
        if self.training:
            signals, mask = augment(signals, mask, positions, self.params)
        anchor, partner = encoder(signals, positions, mask).flatten(1).chunk(2)
        logits = self.head((anchor - partner).abs()).squeeze(1).float()
        loss = functional.binary_cross_entropy_with_logits(logits, batch.target)
        accuracy = ((logits.detach() > 0) == (batch.target > 0.5)).float().mean()
        scores = {
            "accuracy": accuracy,
            "trivial_loss": torch.tensor(math.log(2.0)),
            "trivial_accuracy": torch.tensor(0.5),
        }
        return StepOutput(loss, len(logits), scores)
