"""Make the model of a fine-tuning, fit what must be fitted before it is trained, and load it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.finetuned import FineTuned, HeadOf, make_finetuned
from hbn_foundation.models.params import MAIN, HeadParams
from hbn_foundation.models.voltage import ChallengeModel, VoltageInput
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import (
    Checkpoint,
    fill,
    load_encoder,
    make_encoder,
    random_encoder,
)
from hbn_foundation.training.finetuning.extras import PLAIN, Extras, extras_of

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.finetuning.data import LabelledWindows

REFERENCE = "Cz"


def make_model(
    checkpoint: Checkpoint,
    head: HeadParams,
    targets: Mapping[str, WindowTargets],
    seed: int,
    scratch: bool,
    extras: Extras = PLAIN,
    channel_names: Sequence[str] = (),
) -> FineTuned:
    """Put new heads on the checkpoint's encoder, or on one with random weights.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    head
        Of the main target.
    targets
        By name.
    seed
        Of what is new.
    scratch
        Begin with random weights everywhere.
    extras
        Further targets, added tokens, the unit of the windows.
    channel_names
        Of the layout; where windows are in volts.

    Raises
    ------
    UserError
        When a head does not suit its target or the tokens.
    """
    encoder = random_encoder(checkpoint, seed) if scratch else load_encoder(checkpoint)
    added = encoder.lacks(extras.tokens)
    with seeding.seeded(seed, seeding.WEIGHTS):
        model = make_finetuned(
            encoder.with_tokens(extras.tokens),
            head,
            targets[MAIN].n_outputs,
            not targets[MAIN].is_regression,
            more={
                name: HeadOf(one.head, targets[name].n_outputs, not targets[name].is_regression)
                for name, one in extras.more_targets.chosen.items()
            },
            input=make_input(extras, channel_names),
            added=added,
        )
    return model.train()


def make_input(extras: Extras, channel_names: Sequence[str]) -> VoltageInput | None:
    """Make what takes windows in volts; None where they are in units of the store."""
    if extras.input.unit == "store":
        return None
    names = list(channel_names)
    reference = names.index(REFERENCE) if REFERENCE in names else None
    return VoltageInput(extras.input, len(names), reference)


def fit_model(
    model: FineTuned,
    store: SignalStore,
    training: LabelledWindows,
    batches: Iterable[Any],
    positions: Tensor,
    targets: Mapping[str, WindowTargets],
) -> None:
    """Fit scales, normalisation of new tokens, heads: on windows of training subjects only.

    Parameters
    ----------
    model
        As `make_model` made it.
    store
        Has the scales of the recordings.
    training
        The training windows with their targets.
    batches
        Of some of them, as they are read; can be iterated several times.
    positions
        (C, 3).
    targets
        By name, the main one first.
    """
    if isinstance(model.input, VoltageInput):
        rows = np.unique(training.windows["row"].to_numpy(dtype=np.int64))
        model.input.scale.copy_(torch.from_numpy(channel_scales(store, rows)))
    prepared = Prepared(model, batches)
    if model.added:
        model.encoder.fit_normalisation(prepared, positions, model.added)
    model.fit_head(prepared, positions)
    for number, (name, one) in enumerate(targets.items()):
        head = model.head.parts[name]
        if one.is_regression:
            head.set_unit(one.mean, one.sd or 1.0)
        if head.params.kind == "distribution":
            column = training.targets[:, number]
            head.fit_prior(column[~column.isnan()])


def channel_scales(store: SignalStore, rows: Iterable[int]) -> np.ndarray:
    """Volts per robust deviation of each channel (C,) float32: the median over recordings.

    A channel that is good in none of them gets the median of the others.
    """
    scales = np.stack([store.good_scales(row) for row in rows])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        found = np.nanmedian(scales, axis=0)
    return np.where(np.isfinite(found), found, np.nanmedian(found)).astype(np.float32)


class Prepared:
    """Batches as the encoder sees them.

    Parameters
    ----------
    model
        Prepares them.
    batches
        As they are read.
    """

    def __init__(self, model: FineTuned, batches: Iterable[Any]) -> None:
        self.model = model
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            signals, mask = self.model.prepare(batch.signals, batch.mask)
            yield Batch(signals, mask, batch.index)


def load_finetuned(checkpoint: Checkpoint) -> FineTuned:
    """Load encoder and heads of a fine-tuned checkpoint, in evaluation mode, on the CPU.

    Raises
    ------
    UserError
        When the weights do not fit the architecture that the metadata describe.
    """
    metadata = checkpoint.metadata
    extras = extras_of(metadata["parameters"])

    def asked(params: HeadParams, targets: dict[str, Any]) -> HeadOf:
        of_classes = not targets["is_regression"]
        return HeadOf(params, len(targets["names"]), of_classes)

    main = asked(HeadParams(**metadata["parameters"]["head"]), metadata["targets"])
    model = make_finetuned(
        make_encoder(checkpoint),
        *main,
        more={
            name: asked(one.head, metadata["more_targets"][name])
            for name, one in extras.more_targets.chosen.items()
        },
        input=make_input(extras, metadata["channel_names"]),
    )
    fill(model, checkpoint, "")
    return model.eval()


def load_challenge_model(
    checkpoint: Checkpoint,
    positions: np.ndarray,
    target: str = MAIN,
    limits: tuple[float, float] | None = None,
) -> ChallengeModel:
    """Load a fine-tuned checkpoint as what an export consists of: volts in, one value out.

    Parameters
    ----------
    checkpoint
        Fine-tuned on windows in volts.
    positions
        (C, 3) unit vectors of the checkpoint's `channel_names`.
    target
        Name of the target to answer: the main one, or a further one.
    limits
        Lowest and highest answer; None: those of the bins of a distribution, or none.
    """
    model = load_finetuned(checkpoint)
    params = model.head.parts[target].params
    if limits is None and params.kind == "distribution":
        limits = params.earliest, params.latest
    where = torch.as_tensor(positions, dtype=torch.float32)
    return ChallengeModel(model, where, target, limits).eval()
