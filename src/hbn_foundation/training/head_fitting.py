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
    """What the head of one target is fitted on: windows (N,) of both splits."""

    pooled: Tensor  # (N, F) tokens, as the head pools them
    values: np.ndarray  # of the target; NaN where unknown
    splits: np.ndarray  # train, validation
    usable: np.ndarray  # windows with any channel
    subjects: np.ndarray
    strata: np.ndarray | None = None  # of the main target's scores

    @property
    def training(self) -> np.ndarray:
        """Windows of training subjects."""
        return self.splits == "train"


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
    was_training = model.training
    model.eval()
    samples = take_samples(model, data, most, batches, positions)
    for number, (name, one) in enumerate(targets.items()):
        head, params, sample = model.head.parts[name], head_params[name], samples[number]
        fit_scale(head, sample)
        if one.is_regression:
            head.set_unit(one.mean, one.sd or 1.0)
        if isinstance(head.output, DistributionOutput):
            column = training.targets[:, number]
            values = column[~column.isnan()] * head.unit[1] + head.unit[0]
            head.output.fit_prior(values, PRIOR_SPREAD * params.sigma)
        if isinstance(head.attenuation, Attenuation):
            fit_attenuation(head, sample)
        if params.starts_at_probe and isinstance(head.output, LinearOutput):
            n_classes = None if one.is_regression else len(one.names)
            start_at_probe(head, sample, n_classes, params.strength_by == "folds", callback)
    model.train(was_training)


@torch.no_grad()
def take_samples(
    model: FineTuned,
    data: Mapping[str, LabelledWindows],
    most: int,
    batches: Callable[[LabelledWindows], Iterable[Any]],
    positions: Tensor,
) -> list[Sample]:
    """Pool the tokens of the windows of each split for each head, of a model in evaluation mode.

    The samples are in the order of the heads, the main one first.
    """
    heads, usable = model.head.parts, []
    pooled: dict[str, list[Tensor]] = {name: [] for name in heads}
    for windows in data.values():
        for batch in batches(windows):
            parts = model.encoder.inputs(batch.signals, positions, batch.mask)
            tokens = model.tokens(parts, batch.places)
            for name, head in heads.items():
                pooled[name].append(head.pooling(tokens))
            usable.append(batch.mask.any(-1).numpy())
    chosen = {split: windows.sample(most) for split, windows in data.items()}
    table = pd.concat(chosen.values())
    values = [data[split].targets[one.index.to_numpy(copy=True)] for split, one in chosen.items()]
    made = [
        Sample(
            torch.cat(tokens),
            column.numpy(),
            np.repeat(list(chosen), [len(one) for one in chosen.values()]),
            np.concatenate(usable),
            table["subject"].to_numpy(dtype=str),
        )
        for tokens, column in zip(pooled.values(), torch.cat(values).T, strict=False)
    ]
    if STRATUM in table:
        made[0] = made[0]._replace(strata=table[STRATUM].to_numpy())
    return made


@torch.no_grad()
def fit_scale(head: Head, sample: Sample) -> None:
    """Fit the centre and the one scale of the pooled tokens of training windows.

    Cosines of features that are not centred lie close together, and a linear map learns slowly
    from them. One scale for all, so that their natural variances stay. Windows without any channel
    do not count.
    """
    counted = torch.from_numpy(sample.training & sample.usable)
    variance, mean = torch.var_mean(sample.pooled[counted].double(), 0, correction=0)
    head.centre.copy_(mean)
    head.scale.copy_(variance.mean().clamp_min(1e-12).sqrt())


def normalised(head: Head, sample: Sample) -> Tensor:
    """Pooled tokens (N, F) of a sample, centred and of mean variance one."""
    return (sample.pooled - head.centre) / head.scale


@torch.no_grad()
def fit_attenuation(head: Head, sample: Sample) -> None:
    """Find the directions in which subjects of a class differ.

    A class of which the training windows hold one subject has no such directions.
    """
    assert isinstance(head.attenuation, Attenuation)
    known = ~np.isnan(sample.values) & sample.usable & sample.training
    features = normalised(head, sample)[torch.from_numpy(known)]
    differences = within_classes(features, sample.subjects[known], sample.values[known])
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
    sample: Sample,
    n_classes: int | None,
    by_folds: bool,
    callback: Callable[[], Any] = lambda: None,
) -> float | None:
    """Set a linear head to a probe of a sample's features.

    Parameters
    ----------
    head, sample
        The head, and the windows of both splits.
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
    known = ~np.isnan(sample.values)
    if len(np.unique(sample.values[known & sample.training])) < 2:
        return None
    parts = normalised(head, sample)[torch.from_numpy(known)].split(BATCH_SIZE)
    features = torch.cat([head.hidden(head.attenuation(part)) for part in parts]).float().numpy()
    values, splits = sample.values[known], sample.splits[known]
    subjects = sample.subjects[known]
    found: Any
    if n_classes is None:
        groups = subjects if by_folds else None
        found = fit_ridge(features, values, splits, STRENGTHS, subjects=groups, callback=callback)
    else:
        strata = None if sample.strata is None else sample.strata[known]
        cases = Cases(values.astype(np.int64), splits, subjects, strata)
        found = fit_probe(features, cases, n_classes, STRENGTHS, callback=callback)
    weights, offsets = found.linear_map()
    assert isinstance(head.output, LinearOutput)
    head.output.linear.weight.copy_(torch.from_numpy(weights))
    head.output.linear.bias.copy_(torch.from_numpy(np.maximum(offsets, MIN_OFFSET)))
    return float(found.strength)
