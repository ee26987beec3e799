"""Classify windows by task, or by a column of participants.tsv.

Trivial predictors: the training subjects' class shares (their entropy is the loss) and the most
frequent class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.labels.targets import window_labels
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training.augmentation import augment
from hbn_foundation.training.control import parts_of, shuffle_within
from hbn_foundation.training.objectives.base import Context, ExtendedBatches, Objective, StepOutput
from hbn_foundation.training.params import ObjectiveParams

MAX_CLASSES = 32


class TaskClassification(Objective):
    """A linear classifier on the concatenated final tokens."""

    log_shares: Tensor

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        self.params = params
        self.classes: tuple[str, ...] = ()
        # As wide as the most classes, so that a checkpoint needs no count; unused ones are never
        # predicted, because their log share is minus infinity.
        self.head = nn.Linear(encoder.n_features, MAX_CLASSES)
        self.register_buffer("log_shares", torch.full((MAX_CLASSES,), -torch.inf))

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Add the column `label`; drop windows whose class is unknown."""
        label = self.params.label
        people, train = context.participants, list(context.train)
        table = pd.DataFrame({"subject": []}) if people is None else people
        values, self.classes = window_labels(windows, table, label, train)
        if self.params.shuffle_labels:
            groups = windows["recording" if label.kind == "task" else "subject"]
            subjects = windows["subject"].to_numpy(dtype=str)
            parts = parts_of(subjects, train, context.validation)
            values = shuffle_within(values, groups.to_numpy(), parts, context.seed)
        windows = windows.assign(label=values)
        windows = windows[windows["label"] >= 0].reset_index(drop=True)
        in_training = windows["label"][windows["subject"].isin(train)]
        counts = np.bincount(in_training, minlength=MAX_CLASSES)
        with np.errstate(divide="ignore"):
            shares = np.log(counts / counts.sum())
        self.log_shares.copy_(torch.as_tensor(shares, dtype=torch.float32))
        return windows

    def batches(self, batches: Any, windows: pd.DataFrame) -> Iterable[Batch]:
        """Add the classes."""
        labels = torch.tensor(windows["label"].to_numpy(dtype="int64"))
        return ExtendedBatches(batches, lambda batch: replace(batch, target=labels[batch.index]))

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Cross-entropy of the classes, starting from the training shares."""
        signals, mask = batch.signals, batch.mask
        if self.training:
            signals, mask = augment(signals, mask, positions, self.params)
        logits = self.head(encoder(signals, positions, mask).flatten(1)).float() + self.log_shares
        loss = functional.cross_entropy(logits, batch.target)
        accuracy = (logits.detach().argmax(1) == batch.target).float().mean()
        majority = self.log_shares.argmax()
        scores = {
            "accuracy": accuracy,
            "trivial_loss": -self.log_shares[batch.target].mean(),
            "trivial_accuracy": (batch.target == majority).float().mean(),
        }
        return StepOutput(loss, len(logits), scores)
