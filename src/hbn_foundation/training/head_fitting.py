"""Fit the parts of a model with heads that are not trained, on windows of training subjects.

A linear head starts at a probe of the frozen encoder, which is solved instead of learned. A head
that starts at zero sends random gradients into the encoder until it has learned something, and its
regularisation depends on its number of steps (linear probing, then fine-tuning: Kumar et al. 2022).
The validation windows choose the strength of the probe. For numbers that each subject has one of,
folds of the training subjects may choose, as validation subjects are few (`strength_by`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.models.config import MAIN
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.heads import Head
from hbn_foundation.models.outputs import DistributionOutput, LinearOutput
from hbn_foundation.models.voltage import VoltageInput
from hbn_foundation.training.data import LabelledWindows
from hbn_foundation.training.linear_probe import STRENGTHS, Cases, fit_probe, fit_ridge
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.objectives.base import ExtendedBatches, with_callback

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

BATCH_SIZE = 256
PRIOR_SPREAD = 2.0  # of the training values in a prior, in the sigma that is learned
#: Offset of a class without a window in the sample: unlikely, but still to be learned.
MIN_OFFSET = -10.0


class Sample(NamedTuple):
    """A sample of windows: pooled tokens (N, F) by head; usable, targets and subjects (N, …)."""

    pooled: dict[str, Tensor]
    usable: np.ndarray
    targets: np.ndarray
    subjects: np.ndarray
    strata: np.ndarray | None = None  # of the main target's scores


def fit_model(
    model: FineTuned,
    store: SignalStore,
    data: Mapping[str, LabelledWindows],
    most: int,
    targets: Mapping[str, WindowTargets],
    head_params: Mapping[str, HeadParams],
    callback: Callable[[], Any] = lambda: None,
) -> None:
    """Fit scales, normalisation of new tokens, heads, on at most `most` windows of each split.

    Validation windows choose the strength of the probes that heads start at, and nothing else.
    `data` are `train` and `validation`; targets and parameters of heads are by name, the main
    target first. The callback is called after each batch, and after each part of a probe.
    """
    training = data["train"]
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    if isinstance(model.input, VoltageInput):
        rows = np.unique(training.windows["row"].to_numpy(dtype=np.int64))
        model.input.scale.copy_(torch.from_numpy(channel_scales(store, rows)))

    def batches(windows: LabelledWindows) -> Iterable[Any]:
        def prepare(batch: Any) -> Any:
            signals, mask = model.prepare(batch.signals, batch.mask)
            return replace(batch, signals=signals, mask=mask)

        plain = windows.plain(BATCH_SIZE, most)
        return with_callback(ExtendedBatches(plain, prepare), callback)

    if model.added:
        model.encoder.fit_normalisation(batches(training), positions, model.added)
    model.fit_head(batches(training), positions)
    was_training = model.training
    model.eval()
    samples = {
        name: take_sample(model, part, most, batches(part), positions)
        for name, part in data.items()
    }
    for number, (name, one) in enumerate(targets.items()):
        head, params = model.head.parts[name], head_params[name]
        if one.is_regression:
            head.set_unit(one.mean, one.sd or 1.0)
        if isinstance(head.output, DistributionOutput):
            column = training.targets[:, number]
            values = column[~column.isnan()] * head.unit[1] + head.unit[0]
            head.output.fit_prior(values, PRIOR_SPREAD * params.sigma)
        if isinstance(head.attenuation, Attenuation):
            fit_attenuation(head, name, samples["train"], number)
        if params.starts_at_probe and isinstance(head.output, LinearOutput):
            n_classes = None if one.is_regression else len(one.names)
            by_folds = params.strength_by == "folds"
            start_at_probe(head, name, samples, number, n_classes, by_folds, callback)
    model.train(was_training)


@torch.no_grad()
def take_sample(
    model: FineTuned,
    windows: LabelledWindows,
    most: int,
    batches: Iterable[Any],
    positions: Tensor,
) -> Sample:
    """Pool the tokens of a sample of windows for each head, of a model in evaluation mode."""
    pooled: dict[str, list[Tensor]] = {name: [] for name in model.head.parts}
    usable = []
    for batch in batches:
        parts = model.encoder.inputs(batch.signals, positions, batch.mask)
        tokens = model.tokens(parts, batch.places)
        for name, head in model.head.parts.items():
            pooled[name].append(head.pooling(tokens))
        usable.append(batch.mask.any(-1).numpy())
    chosen = windows.sample(most)
    return Sample(
        {name: torch.cat(parts) for name, parts in pooled.items()},
        np.concatenate(usable),
        windows.targets[chosen.index.to_numpy(copy=True)].numpy(),
        chosen["subject"].to_numpy(dtype=str),
        chosen[STRATUM].to_numpy() if STRATUM in chosen else None,
    )


def normalised(head: Head, name: str, sample: Sample) -> Tensor:
    """Pooled tokens (N, F) of a sample, centred and of mean variance one."""
    return (sample.pooled[name] - head.centre) / head.scale


@torch.no_grad()
def fit_attenuation(head: Head, name: str, sample: Sample, number: int) -> None:
    """Find the directions in which subjects of a class differ; `number` is the target's column.

    A class of which the windows hold one subject has no such directions.
    """
    assert isinstance(head.attenuation, Attenuation)
    known = ~np.isnan(sample.targets[:, number]) & sample.usable
    features = normalised(head, name, sample)[torch.from_numpy(known)]
    differences = within_classes(features, sample.subjects[known], sample.targets[known, number])
    head.attenuation.fit(*differences, head.config.attenuation)


def within_classes(
    features: Tensor, subjects: np.ndarray, classes: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return how subjects of a class differ: means (G, F) by subject less their class's mean.

    Parameters
    ----------
    features
        (N, F).
    subjects, classes
        Of each (N,).

    Returns
    -------
    tuple of Tensor
        The differences of the groups of subject and class, and the groups' shares (G,).
    """
    table = pd.DataFrame({"class": classes, "subject": subjects})
    grouped = table.groupby(["class", "subject"], sort=True)
    groups = torch.from_numpy(grouped.ngroup().to_numpy(dtype=np.int64, copy=True))
    class_of = torch.from_numpy(grouped["class"].first().to_numpy(dtype=np.int64, copy=True))
    counts = torch.bincount(groups, minlength=len(class_of)).double()
    sums = torch.zeros(len(class_of), features.shape[1], dtype=torch.float64)
    sums.index_add_(0, groups, features.double())
    means = sums / counts[:, None]
    for one in class_of.unique():
        mine = class_of == one
        means[mine] -= sums[mine].sum(0) / counts[mine].sum()
    return means, counts / counts.sum()


def channel_scales(store: SignalStore, rows: Iterable[int]) -> np.ndarray:
    """Volts per robust deviation of each channel (C,) float32: the median over recordings.

    A channel that is good in none of them gets the median of the others.
    """
    scales = np.stack([store.good_scales(row) for row in rows])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        found = np.nanmedian(scales, axis=0)
    return np.where(np.isfinite(found), found, np.nanmedian(found)).astype(np.float32)


@torch.no_grad()
def start_at_probe(
    head: Head,
    name: str,
    samples: Mapping[str, Sample],
    number: int,
    n_classes: int | None,
    by_folds: bool,
    callback: Callable[[], Any] = lambda: None,
) -> float | None:
    """Set a linear head to a probe of a sample's features.

    Parameters
    ----------
    head, name, number
        The head, its target and the column of that in `Sample.targets`.
    samples
        `train` and `validation`.
    n_classes
        None for a number.
    by_folds
        Whether folds of the training subjects choose the strength for a number.
    callback
        Called after each part of the solution.

    Returns
    -------
    float or None
        The strength that was chosen; None where the training windows have one value, and the head
        begins at zero.
    """
    features = np.concatenate(
        [
            head.hidden(head.attenuation(part)).float().numpy()
            for sample in samples.values()
            for part in normalised(head, name, sample).split(BATCH_SIZE)
        ]
    )
    values = np.concatenate([sample.targets[:, number] for sample in samples.values()])
    subjects = np.concatenate([sample.subjects for sample in samples.values()])
    strata = None
    if name == MAIN and all(sample.strata is not None for sample in samples.values()):
        strata = np.concatenate([sample.strata for sample in samples.values()])
    splits = np.repeat(list(samples), [len(sample.subjects) for sample in samples.values()])
    known = ~np.isnan(values)
    if len(np.unique(values[known & (splits == "train")])) < 2:
        return None
    features, values, splits = features[known], values[known], splits[known]
    found: Any
    if n_classes is None:
        groups = subjects[known] if by_folds else None
        found = fit_ridge(features, values, splits, STRENGTHS, subjects=groups, callback=callback)
    else:
        strata = None if strata is None else strata[known]
        cases = Cases(values.astype(np.int64), splits, subjects[known], strata)
        found = fit_probe(features, cases, n_classes, STRENGTHS, callback=callback)
    weights, offsets = found.linear_map()
    assert isinstance(head.output, LinearOutput)
    head.output.linear.weight.copy_(torch.from_numpy(weights))
    head.output.linear.bias.copy_(torch.from_numpy(np.maximum(offsets, MIN_OFFSET)))
    return float(found.strength)
