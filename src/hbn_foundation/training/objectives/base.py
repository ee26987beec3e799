"""What every objective offers to the training."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hbn_foundation.errors import UserError
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.training.params import ObjectiveParams

NUMBER = "window_number"


@dataclass
class StepOutput:
    """What one batch gave.

    Attributes
    ----------
    loss
        What is minimised: a scalar with gradient.
    size
        Windows that the means are over.
    scores
        Means over the batch, each a scalar without gradient. Those named `trivial_…` are the same
        loss of a predictor that has learned nothing, on the same windows.
    """

    loss: Tensor
    size: int
    scores: dict[str, Tensor] = field(default_factory=dict)


class Average:
    """Mean of the scores of batches, weighted by their size."""

    def __init__(self) -> None:
        self.size = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, output: StepOutput) -> None:
        """Add a batch, without synchronising the device."""
        self.size += output.size
        for name, value in {"loss": output.loss.detach(), **output.scores}.items():
            total = value.float() * output.size
            self.sums[name] = self.sums[name] + total if name in self.sums else total

    def values(self) -> dict[str, float]:
        """Mean of each score."""
        return {name: float(total) / self.size for name, total in self.sums.items()}


class Context(NamedTuple):
    """What an objective may need beside the windows: rate in Hz, seed, subjects of the splits."""

    sfreq: float
    seed: int
    train: Sequence[str] = ()
    validation: Sequence[str] = ()
    participants: pd.DataFrame | None = None


class TrainingWindows(NamedTuple):
    """What an objective is fitted on: batches, positions (C, 3), what `fit_normalisation` gave."""

    batches: Iterable[Any]
    positions: Tensor
    statistics: dict[str, Tensor]


class ExtendedBatches:
    """Batches, each passed through a function when it is asked for."""

    def __init__(self, plain: Any, extend: Callable[[Any], Any]) -> None:
        self.plain = plain
        self.extend = extend

    def __len__(self) -> int:
        return len(self.plain)

    def __iter__(self) -> Iterator[Any]:
        return map(self.extend, self.plain)


class ChainedBatches:
    """Batches of several sources, one source after the other, as often as they are asked for."""

    def __init__(self, *sources: Any) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.sources)


def with_callback(batches: Iterable[Any], callback: Callable[[], Any]) -> ExtendedBatches:
    """Call back with each batch, such as to send a heartbeat."""

    def extend(batch: Any) -> Any:
        callback()
        return batch

    return ExtendedBatches(batches, extend)


def whole_tangents(
    encoder: Encoder, batches: Iterable[Any], positions: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield numbers (B,), band tangents (B, bands, 190) and usability (B,) of windows in batches.

    Numbers are on the CPU, the others on the device of the positions.
    """
    assert encoder.band is not None
    for batch in batches:
        signals, mask = batch.signals.to(positions), batch.mask.to(positions.device)
        yield batch.target.cpu(), encoder.band.tangents(signals, positions, mask), mask.any(-1)


def check_tokens(params: ObjectiveParams, encoder: Encoder, families: Iterable[str]) -> None:
    """Raise a UserError where an encoder lacks tokens that an objective needs."""
    if missing := [family for family in families if family not in encoder.config.tokens]:
        raise UserError(
            f"objective.name: {params.name} needs {' and '.join(missing)} tokens, but "
            f"encoder.tokens is {list(encoder.config.tokens)}"
        )


class Objective(nn.Module, ABC):
    """A task that needs no human label, or one that has some, with the modules that it trains."""

    params: ObjectiveParams
    #: Whether the loss is of a whole batch: where memory is short, it has fewer windows.
    whole_batches = False
    #: One more than the largest number of a window.
    n_numbers = 0

    def prepare(self, windows: pd.DataFrame, context: Context) -> pd.DataFrame:
        """Drop windows that cannot be used, and number the others where they have no number."""
        if NUMBER not in windows:
            windows = windows.assign(**{NUMBER: np.arange(len(windows))})
        self.n_numbers = int(windows[NUMBER].max()) + 1 if len(windows) else 0
        return windows

    def batches(self, batches: Any, windows: pd.DataFrame) -> Iterable[Any]:
        """Add targets or partners to plain batches of the same windows table; here the numbers."""
        numbers = torch.tensor(windows[NUMBER].to_numpy(dtype=np.int64))
        return ExtendedBatches(batches, lambda batch: replace(batch, target=numbers[batch.index]))

    def fit(self, encoder: Encoder, on: TrainingWindows) -> None:
        """Fit what is not learned (targets' coordinates and scales) on training windows."""
        return

    def begin(self, encoder: Encoder, batches: Iterable[Any], positions: Tensor) -> None:
        """Compute what depends on the data and is not kept with the weights.

        Called before the first step, also of a training that is resumed, with what is fitted in
        place. `batches` gives every window once, as it is: before a training those of training
        and validation subjects, else of the subjects that are scored.
        """
        return

    @abstractmethod
    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Score one batch; in training mode with augmentation."""
