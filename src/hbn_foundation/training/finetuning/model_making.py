"""Make the model of a fine-tuning, fit what must be fitted before it is trained, and load it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.models.challenge import ChallengeModel
from hbn_foundation.models.config import MAIN, InputConfig
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.outputs import DistributionOutput
from hbn_foundation.models.voltage import VoltageInput
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import (
    Checkpoint,
    fill,
    load_encoder,
    make_encoder,
    random_encoder,
)
from hbn_foundation.training.finetuning.group_means import GroupMeans
from hbn_foundation.training.finetuning.probe_start import start_from_probes
from hbn_foundation.training.model_building import (
    HeadOf,
    build_finetuned,
    lacking_tokens,
    with_tokens,
)
from hbn_foundation.training.model_params import HeadParams, InputParams
from hbn_foundation.training.recipes import FineTuningRecipe

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.finetuning.data import LabelledWindows

REFERENCE = "Cz"
BATCH_SIZE = 256
PRIOR_SPREAD = 2.0  # of the training values in a prior, in the sigma that is learned


def make_model(
    checkpoint: Checkpoint,
    recipe: FineTuningRecipe,
    targets: Mapping[str, WindowTargets],
    channel_names: Sequence[str] = (),
    *,
    scratch: bool = False,
) -> FineTuned:
    """Put new heads on the checkpoint's encoder, or on one with random weights.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    recipe
        Heads, added tokens, the unit of the windows, and the seed of what is new.
    targets
        By name.
    channel_names
        Of the layout; where windows are in volts.
    scratch
        Begin with random weights everywhere.

    Raises
    ------
    UserError
        When a head does not suit its target or the tokens.
    """
    seed = recipe.trainer.seed
    encoder = random_encoder(checkpoint, seed) if scratch else load_encoder(checkpoint)
    heads = {
        name: HeadOf(params, targets[name].n_outputs, not targets[name].is_regression)
        for name, params in recipe.heads.items()
    }
    with seeding.seeded(seed, seeding.WEIGHTS):
        model = build_finetuned(
            with_tokens(encoder, recipe.tokens),
            heads,
            input=make_input(recipe.input, channel_names),
            added=lacking_tokens(encoder, recipe.tokens),
        )
    return model.train()


def make_input(params: InputParams, channel_names: Sequence[str]) -> VoltageInput | None:
    """Make what takes windows in volts; None where they are in units of the store."""
    if params.unit == "store":
        return None
    names = list(channel_names)
    reference = names.index(REFERENCE) if REFERENCE in names else None
    rules = params.model_dump(exclude={"unit"})
    return VoltageInput(InputConfig(len(names), reference, **rules))


def fit_model(
    model: FineTuned,
    store: SignalStore,
    data: Mapping[str, LabelledWindows],
    most: int,
    targets: Mapping[str, WindowTargets],
    head_params: Mapping[str, HeadParams],
    tell: Callable[[], Any] = lambda: None,
) -> None:
    """Fit scales, normalisation of new tokens, heads: on windows of training subjects.

    Only how strongly a probe is regularised that a head begins at, is chosen on validation windows,
    where `strength_by` does not say otherwise.

    Parameters
    ----------
    model
        As `make_model` made it.
    store
        Has the scales of the recordings, and the positions of the channels.
    data
        `train` and `validation`, with their targets.
    most
        Windows of each that are used at most.
    targets
        By name, the main one first.
    head_params
        Of the heads, by target.
    tell
        Called after each batch, and as a head's start is solved.
    """
    training = data["train"]
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    if isinstance(model.input, VoltageInput):
        rows = np.unique(training.windows["row"].to_numpy(dtype=np.int64))
        model.input.scale.copy_(torch.from_numpy(channel_scales(store, rows)))
    batches = {name: Prepared(model, part, most, tell) for name, part in data.items()}
    if model.added:
        model.encoder.fit_normalisation(batches["train"], positions, model.added)
    model.fit_head(batches["train"], positions)
    for number, (name, one) in enumerate(targets.items()):
        head = model.head.parts[name]
        if one.is_regression:
            head.set_unit(one.mean, one.sd or 1.0)
        if isinstance(head.output, DistributionOutput):
            column = training.targets[:, number]
            values = column[~column.isnan()] * head.unit[1] + head.unit[0]
            head.output.fit_prior(values, PRIOR_SPREAD * head_params[name].sigma)
    fit_attenuation(model, training, batches["train"], positions)
    start_from_probes(model, data, batches, positions, targets, head_params, tell)


@torch.no_grad()
def fit_attenuation(
    model: FineTuned,
    training: LabelledWindows,
    batches: Iterable[Any],
    positions: Tensor,
) -> None:
    """Find the directions in which subjects of a class differ; parameters as for `fit_model`.

    A class of which the windows hold one subject has no such directions.
    """
    found = {}
    subjects = training.windows["subject"].to_numpy()
    for number, (name, head) in enumerate(model.head.parts.items()):
        if isinstance(head.attenuation, Attenuation):
            values = training.targets[:, number].numpy()
            found[name] = GroupMeans.of(subjects, values, len(head.centre))
    if not found:
        return
    was_training = model.training
    model.eval()
    for batch in batches:
        usable = batch.mask.any(-1)
        if usable.any():
            signals, mask = batch.signals[usable], batch.mask[usable]
            tokens = model.tokens(model.encoder.inputs(signals, positions, mask))
            for name, means in found.items():
                means.add(model.head.parts[name].normalised(tokens), batch.index[usable])
    for name, means in found.items():
        head = model.head.parts[name]
        assert isinstance(head.attenuation, Attenuation)
        head.attenuation.fit(*means.within_classes(), head.config.attenuation)
    model.train(was_training)


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
    """Batches of some windows as the encoder sees them; `index` is a place among all of them.

    Parameters
    ----------
    model
        Prepares them.
    windows
        Reads them.
    most
        How many at most.
    tell
        Called after each batch.
    """

    def __init__(
        self, model: FineTuned, windows: LabelledWindows, most: int, tell: Callable[[], Any]
    ) -> None:
        self.model = model
        self.windows = windows
        self.most = most
        self.tell = tell
        self.places = torch.from_numpy(windows.sample(most).index.to_numpy(copy=True))

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.windows.plain(BATCH_SIZE, self.most):
            signals, mask = self.model.prepare(batch.signals, batch.mask)
            yield Batch(signals, mask, self.places[batch.index])
            self.tell()


def load_finetuned(checkpoint: Checkpoint) -> FineTuned:
    """Load encoder and heads of a fine-tuned checkpoint, in evaluation mode, on the CPU.

    Raises
    ------
    UserError
        When the weights do not fit the architecture that the metadata describe.
    """
    metadata = checkpoint.metadata
    recipe = recipe_of(metadata["parameters"])
    targets = {MAIN: metadata["targets"], **metadata.get("more_targets", {})}
    heads = {
        name: HeadOf(params, len(targets[name]["names"]), not targets[name]["is_regression"])
        for name, params in recipe.heads.items()
    }
    volts = make_input(recipe.input, metadata["channel_names"])
    model = build_finetuned(make_encoder(checkpoint), heads, input=volts)
    fill(model, checkpoint, "")
    return model.eval()


def recipe_of(parameters: Mapping[str, Any]) -> FineTuningRecipe:
    """Read from a checkpoint's parameters what its heads were made of."""
    groups = ("head", "more_targets", "tokens", "input")
    return FineTuningRecipe(**{name: parameters[name] for name in groups if name in parameters})


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
    config = model.head.parts[target].config
    if limits is None and config.kind == "distribution":
        limits = config.earliest, config.latest
    where = torch.as_tensor(positions, dtype=torch.float32)
    return ChallengeModel(model, where, target, limits).eval()
