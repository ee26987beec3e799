"""The models of both challenges as they are exported: how each is made, and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge_predictions import learned_columns
from hbn_foundation.models.config import MAIN
from hbn_foundation.submission.calls import Call
from hbn_foundation.submission.export import ExportedModel
from hbn_foundation.submission.params import ExportParams
from hbn_foundation.submission.windows import CHANNELS, N_SAMPLES, SFREQ

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.finetuned import FineTuned
    from hbn_foundation.models.heads import Head
    from hbn_foundation.models.voltage import ChallengeModel
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


def exported_models(
    checkpoints: Mapping[int, Checkpoint], store: SignalStore, params: ExportParams
) -> dict[int, ExportedModel]:
    """Describe the models of both challenges for the export.

    Parameters
    ----------
    checkpoints
        Fine-tuned on windows in volts, by challenge.
    store
        Whose channels they take.
    params
        Which labels are answered.

    Raises
    ------
    UserError
        When a checkpoint does not suit the challenge.
    """
    columns = {1: params.challenge1, 2: params.challenge2}
    return {
        number: exported_model(
            checkpoint,
            store.channel_names,
            store.positions,
            target_of(checkpoint.metadata, columns[number]),
            f"{columns[number]}, fine-tuned by run {checkpoint.metadata.get('run_id')}",
        )
        for number, checkpoint in checkpoints.items()
    }


def target_of(metadata: Mapping[str, Any], column: str) -> str:
    """Return the name of the target whose label is a column.

    Raises
    ------
    UserError
        When the checkpoint was fine-tuned for other labels, or for classes of this one.
    """
    columns = learned_columns(metadata)
    described = {MAIN: metadata["targets"], **metadata["more_targets"]}
    found = [name for name, known in columns.items() if known == column]
    for name in found:
        if described[name]["is_regression"]:
            return name
    if found:
        raise UserError(
            f"export: the checkpoint answers {column} in classes, and a submission gives numbers; "
            "fine-tune with label.type: regression"
        )
    known = ", ".join(columns.values())
    raise UserError(f"export: the checkpoint was fine-tuned for {known}, not for {column}")


def exported_model(
    checkpoint: Checkpoint,
    channel_names: Sequence[str],
    positions: np.ndarray,
    target: str,
    origin: str = "",
) -> ExportedModel:
    """Describe the model of a fine-tuned checkpoint for the export.

    Parameters
    ----------
    checkpoint
        Fine-tuned on windows in volts.
    channel_names, positions
        Of the signal store: names, and unit vectors (C, 3).
    target
        Name of the target that is answered.
    origin
        Where it is from, in a few words.

    Raises
    ------
    UserError
        When the checkpoint takes other windows than the challenge gives.
    """
    from hbn_foundation.submission.channels import Rearranged
    from hbn_foundation.training.finetuning.model_making import load_challenge_model

    metadata = checkpoint.metadata
    _check(metadata, channel_names)
    names = tuple(metadata["channel_names"])
    model = load_challenge_model(checkpoint, positions, target)
    call, weights = describe(model), model.state_dict()
    if names != CHANNELS:
        places = [CHANNELS.index(name) if name in CHANNELS else -1 for name in names]
        call = Call(Rearranged, {"model": call, "places": places, "n_given": len(CHANNELS)})
        weights = {f"model.{name}": value for name, value in weights.items()}
    return ExportedModel(call, weights, origin)


def _check(metadata: Mapping[str, Any], channel_names: Sequence[str]) -> None:
    """Check that a checkpoint is one whose model can be exported."""
    if metadata.get("parameters", {}).get("input", {}).get("unit") != "volts":
        raise UserError(
            "export: the checkpoint takes signals of the store, and a submission is given volts; "
            "fine-tune with input.unit: volts"
        )
    expected, found = (SFREQ, N_SAMPLES), (metadata["sfreq"], metadata["n_samples"])
    if found != expected:
        raise UserError(
            f"export: the checkpoint takes {found[1]} samples at {found[0]:g} Hz; a submission is "
            f"given {N_SAMPLES} samples at {SFREQ} Hz"
        )
    if list(channel_names) != list(metadata["channel_names"]):
        raise UserError(
            f"export: the signal store has {len(channel_names)} channels, others or in another "
            f"order than the {len(metadata['channel_names'])} of the checkpoint"
        )
    if not set(CHANNELS) & set(channel_names):
        raise UserError(f"export: none of the checkpoint's channels is one of {CHANNELS[0]} to Cz")


def describe(model: ChallengeModel) -> Call:
    """Describe how a model is made, from what it was made with."""
    from hbn_foundation.models.voltage import ChallengeModel

    low, high = model.limits.tolist()
    return Call(
        ChallengeModel,
        {
            "model": _finetuned(model.model),
            "positions": model.positions,
            "target": model.target,
            "limits": (low, high),
        },
    )


def _finetuned(model: FineTuned) -> Call:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.models.finetuned import FineTuned
    from hbn_foundation.models.heads import Head, Heads
    from hbn_foundation.models.voltage import VoltageInput

    encoder, volts = model.encoder, model.input
    assert isinstance(volts, VoltageInput)
    n_time = 0 if encoder.time is None else len(encoder.time)

    def head_call(head: Head) -> Call:
        return Call(
            Head,
            {
                "config": head.config,
                "n_tokens": encoder.n_tokens,
                "dim": encoder.config.hidden_dim,
                "n_time": n_time,
            },
        )

    heads = {name: head_call(head) for name, head in model.head.parts.items()}
    return Call(
        FineTuned,
        {
            "encoder": Call(
                Encoder,
                {"config": encoder.config},
            ),
            "head": next(iter(heads.values()))
            if isinstance(model.head, Head)
            else Call(Heads, {"heads": heads}),
            "input": Call(
                VoltageInput,
                {"config": volts.config},
            ),
        },
    )


def project_model(exported: ExportedModel) -> nn.Module:
    """Make the model here, from the project's own modules, in evaluation mode."""
    model = exported.call.build()
    model.load_state_dict(exported.weights)
    return model.eval()
