"""Make and load models with heads, and predict with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.challenge import ChallengeModel
from hbn_foundation.models.config import MAIN, InputConfig
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.voltage import VoltageInput
from hbn_foundation.params import dotted
from hbn_foundation.progress import track
from hbn_foundation.signals.context import WINDOW, sequences
from hbn_foundation.training import seeding, variants
from hbn_foundation.training.checkpoint import (
    Checkpoint,
    check_signals,
    fill,
    load_encoder,
    make_encoder,
    random_encoder,
)
from hbn_foundation.training.model_building import (
    HeadOf,
    build_finetuned,
    lacking_tokens,
    sequence_config,
    with_tokens,
)
from hbn_foundation.training.model_params import InputParams
from hbn_foundation.training.recipes import FineTuningRecipe

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore

REFERENCE = "Cz"
#: Groups of parameters that a model with heads is made from.
OF_A_MODEL = ("head", "more_targets", "tokens", "input", "context", "sequence_encoder")
#: Parameters of those that say how a head is trained or fitted.
NOT_IN_A_HEAD = {
    "dropout",
    "label",
    "margin_warmup_steps",
    "max_windows",
    "moves",
    "start",
    "strength_by",
    "weight",
}


def make_model(
    checkpoint: Checkpoint,
    recipe: FineTuningRecipe,
    targets: Mapping[str, WindowTargets],
    channel_names: Sequence[str] = (),
) -> FineTuned:
    """Make the model that training begins with: the checkpoint's encoder with new or its own heads.

    From scratch it has random weights everywhere.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint, or a fine-tuned one.
    recipe
        Heads, added tokens, the unit of the windows, the seed of what is new, what is kept.
    targets
        By name.
    channel_names
        Of the layout; where windows are in volts.

    Raises
    ------
    UserError
        When a head does not suit its target or the tokens, or is not that of the checkpoint.
    """
    variants.check_trainable(checkpoint.metadata)
    if recipe.keeps_head:
        return _with_weights(checkpoint, recipe).train()
    seed, scratch = recipe.trainer.seed, recipe.effective_plan.from_scratch
    encoder = (
        random_encoder(checkpoint, seed, with_slow=True) if scratch else load_encoder(checkpoint)
    )
    with seeding.seeded(seed, seeding.WEIGHTS):
        model = assemble(encoder, recipe, targets, input=make_input(recipe.input, channel_names))
    return model.train()


def assemble(
    encoder: Encoder,
    recipe: FineTuningRecipe,
    targets: Mapping[str, WindowTargets],
    **options: Any,
) -> FineTuned:
    """Put a recipe's heads of some targets, added tokens and sequence encoder on an encoder."""
    heads = {
        name: HeadOf(params, targets[name].n_outputs, not targets[name].is_regression)
        for name, params in recipe.heads.items()
        if name in targets
    }
    return build_finetuned(
        with_tokens(encoder, recipe.tokens),
        heads,
        added=lacking_tokens(encoder, recipe.tokens),
        sequence=sequence_config(recipe.context, recipe.sequence_encoder),
        **options,
    )


def make_input(params: InputParams, channel_names: Sequence[str]) -> VoltageInput | None:
    """Make the input layer for windows in volts; None for units of the store."""
    if params.unit == "store":
        return None
    names = list(channel_names)
    reference = names.index(REFERENCE) if REFERENCE in names else None
    rules = params.model_dump(exclude={"unit"})
    return VoltageInput(InputConfig(len(names), reference, **rules))


def load_finetuned(checkpoint: Checkpoint, portable: bool = False) -> FineTuned:
    """Load encoder and heads of a fine-tuned checkpoint, in evaluation mode, on the CPU.

    It is the variant that the metadata name; `portable`, as far as plain torch has it.

    Raises
    ------
    UserError
        When the weights do not fit the architecture that the metadata describe, or a variant needs
        a library that is not installed.
    """
    model = _with_weights(checkpoint, recipe_of(checkpoint)).eval()
    variants.apply(model.encoder, checkpoint.metadata, checkpoint.weights, portable)
    return model


def recipe_of(checkpoint: Checkpoint) -> FineTuningRecipe:
    """Return heads, tokens and input of a fine-tuned checkpoint."""
    parameters = checkpoint.metadata["parameters"]
    given = {name: parameters[name] for name in OF_A_MODEL if name in parameters}
    return FineTuningRecipe(**given)


def _with_weights(checkpoint: Checkpoint, recipe: FineTuningRecipe) -> FineTuned:
    """Make the model of a fine-tuned checkpoint with a recipe's heads, and load its weights."""
    targets = {
        name: WindowTargets(np.empty(0), tuple(one["names"]), one["is_regression"])
        for name, one in target_descriptions(checkpoint.metadata).items()
    }
    volts = make_input(recipe.input, checkpoint.metadata["channel_names"])
    model = assemble(make_encoder(checkpoint), recipe, targets, input=volts)
    fill(model, checkpoint, "")
    return model


def check_kept(
    checkpoint: Checkpoint, recipe: FineTuningRecipe, targets: Mapping[str, WindowTargets]
) -> dict[str, WindowTargets]:
    """Check that heads are those of a checkpoint; return the targets, numbers in their units.

    Raises
    ------
    UserError
        When the checkpoint has no head, or naming the first parameter of heads, tokens or input
        that differs from the recipe's, or the classes that do.
    """
    if "targets" not in checkpoint.metadata:
        raise UserError(
            "keep_head: the checkpoint has no head; set checkpoint to that of a fine-tuning, such "
            "as finetuning_checkpoint"
        )
    before = target_descriptions(checkpoint.metadata)
    there = _of_heads(recipe_of(checkpoint), {name: one["names"] for name, one in before.items()})
    here = _of_heads(recipe, {name: one.names for name, one in targets.items()})
    for key in here | there:
        if here.get(key) != there.get(key):
            raise UserError(
                f"keep_head: {key} is {there.get(key, 'absent')} in the checkpoint and "
                f"{here.get(key, 'absent')} here; expected the same, or keep_head: false"
            )
    return {
        name: one._replace(mean=before[name]["mean"], sd=before[name]["sd"])
        for name, one in targets.items()
    }


def _of_heads(recipe: FineTuningRecipe, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what makes heads the same, by dotted names."""
    flat = dotted(recipe.model_dump(mode="json", include=set(OF_A_MODEL)))
    kept = {name: value for name, value in flat if not NOT_IN_A_HEAD & set(name.split("."))}
    return {f"classes.{name}": ", ".join(names) for name, names in classes.items()} | kept


def target_descriptions(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the descriptions of a fine-tuned checkpoint's targets, the main one first."""
    return {MAIN: metadata["targets"], **metadata.get("more_targets", {})}


def load_challenge_model(
    checkpoint: Checkpoint, positions: np.ndarray, target: str = MAIN
) -> ChallengeModel:
    """Load a fine-tuned checkpoint as the exported model: volts in, one value out.

    The value is within the bins of a distribution, if it is one.

    Parameters
    ----------
    checkpoint
        Fine-tuned on windows in volts.
    positions
        (C, 3) unit vectors of the checkpoint's `channel_names`.
    target
        Name of the target to predict: the main one, or a further one.
    """
    model = load_finetuned(checkpoint, portable=True)
    if model.sequence is not None:
        raise UserError(
            "checkpoint: the model has a context, and the challenge hands out single windows; "
            "fine-tune with context.of: window"
        )
    config = model.head.parts[target].config
    limits = (config.earliest, config.latest) if config.kind == "distribution" else None
    where = torch.as_tensor(positions, dtype=torch.float32)
    return ChallengeModel(model, where, target, limits).eval()


def predict(
    checkpoint: Checkpoint, store: SignalStore, windows: pd.DataFrame, batch_size: int = 256
) -> np.ndarray:
    """Predict the main target of windows: (n, classes) log-probabilities, or (n,) values."""
    return predict_targets(checkpoint, store, windows, batch_size).answers[MAIN]


class Predictions(NamedTuple):
    """What a model predicts for windows, by target."""

    #: (n, classes) log-probabilities, or (n,) values in their own units.
    answers: dict[str, np.ndarray]
    #: (n, bins) of targets that are distributions.
    shares: dict[str, np.ndarray]


@torch.inference_mode()
def predict_targets(
    checkpoint: Checkpoint, store: SignalStore, windows: pd.DataFrame, batch_size: int = 256
) -> Predictions:
    """Predict all targets of windows, `batch_size` of them at once.

    A model with a context reads the windows around them from the store, too.

    Raises
    ------
    UserError
        When the store's channels are not those that the model takes volts of.
    """
    from hbn_foundation.signals.batches import WindowBatches, WindowReader

    metadata = checkpoint.metadata
    n_samples = metadata["n_samples"]
    check_signals(checkpoint, float(store.sfreq), n_samples)
    model = load_finetuned(checkpoint)
    if model.unit == "volts" and list(store.channel_names) != metadata["channel_names"]:
        raise UserError(
            f"checkpoint: takes volts of {len(metadata['channel_names'])} channels in their "
            f"order, found {len(store.channel_names)} others"
        )
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    table, recipe = windows, recipe_of(checkpoint)
    if recipe.context.is_used:
        longest = recipe.sequence_encoder.max_windows
        table = sequences(store, windows, n_samples, recipe.context, longest)
    place = table[WINDOW].to_numpy() if WINDOW in table else np.arange(len(windows))
    asked = np.flatnonzero(place >= 0)[np.argsort(place[place >= 0])]
    batches = WindowBatches(WindowReader(store, n_samples, model.unit), table, batch_size)
    outputs: list[dict[str, torch.Tensor]] = []
    for batch in track(batches, "batches predicted"):
        signals, mask = model.prepare(batch.signals, batch.mask)
        outputs.append(model.split(model(signals, positions, mask, places=batch.places)))
    answers, shares = {}, {}
    for name, described in target_descriptions(metadata).items():
        head = model.head.parts[name]
        found = torch.cat([part[name] for part in outputs])[asked]
        if not described["is_regression"]:
            answers[name] = found.log_softmax(-1).numpy()
            continue
        answers[name] = head.value(found).numpy()
        if head.config.kind == "distribution":
            shares[name] = found.softmax(-1).numpy()
    return Predictions(answers, shares)
