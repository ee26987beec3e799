"""From fine-tuned checkpoints to a submission.

The models are shipped as they are: the source of `hbn_foundation.models`, which needs torch alone,
the arguments that they are made with, and their weights.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hbn_foundation import __version__
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.predictions import learned_columns
from hbn_foundation.models.config import MAIN
from hbn_foundation.submission.archive import SOURCE, Submission, zip_bytes
from hbn_foundation.submission.params import ExportParams
from hbn_foundation.submission.windows import CHANNELS, N_SAMPLES, SFREQ

if TYPE_CHECKING:
    from hbn_foundation.models.challenge import ChallengeModel, ReorderChannels
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

PACKAGE = "hbn_models"  # what the models are called within the zip


def export_submission(
    checkpoints: Mapping[int, Checkpoint], store: SignalStore, params: ExportParams
) -> Submission:
    """Make a submission of two models; the same checkpoints give the same bytes.

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
    import torch

    from hbn_foundation.models.challenge import describe

    columns = {1: params.challenge1, 2: params.challenge2}
    described: dict[str, Any] = {"version": __version__}
    parts = {SOURCE: files(__package__).joinpath("template.py").read_bytes()}
    for number, model in exported_models(checkpoints, store, params).items():
        name = f"challenge_{number}"
        run = checkpoints[number].metadata.get("run_id")
        described[name] = describe(model)
        described[f"origin_{number}"] = f"{columns[number]}, fine-tuned by run {run}"
        buffer = io.BytesIO()
        torch.save({key: part.clone() for key, part in model.state_dict().items()}, buffer)
        parts[f"weights_{name}.pt"] = buffer.getvalue()
    parts["models.json"] = json.dumps(described, indent=1).encode()
    parts["models.zip"] = zip_bytes(
        {
            f"{PACKAGE}/{file.name}": file.read_bytes()
            for file in files("hbn_foundation.models").iterdir()
            if file.name.endswith(".py")
        }
    )
    return Submission(parts)


def exported_models(
    checkpoints: Mapping[int, Checkpoint], store: SignalStore, params: ExportParams
) -> dict[int, ChallengeModel | ReorderChannels]:
    """Load the models as they are exported; arguments as for `export_submission`."""
    from hbn_foundation.models.challenge import ReorderChannels
    from hbn_foundation.training.finetuned import load_challenge_model

    columns = {1: params.challenge1, 2: params.challenge2}
    models: dict[int, ChallengeModel | ReorderChannels] = {}
    for number, checkpoint in sorted(checkpoints.items()):
        target = target_of(checkpoint.metadata, columns[number])
        _check_windows(checkpoint.metadata, list(store.channel_names))
        names = tuple(checkpoint.metadata["channel_names"])
        model = load_challenge_model(checkpoint, store.positions, target)
        models[number] = model
        if names != CHANNELS:
            places = [CHANNELS.index(name) if name in CHANNELS else -1 for name in names]
            models[number] = ReorderChannels(model, places, len(CHANNELS)).eval()
    return models


def target_of(metadata: Mapping[str, Any], column: str) -> str:
    """Return the name of the target whose label is a column and a number, or say why not."""
    columns = learned_columns(metadata)
    described = {MAIN: metadata["targets"], **metadata["more_targets"]}
    found = [name for name, known in columns.items() if known == column]
    if not found:
        known = ", ".join(columns.values())
        raise UserError(f"export: the checkpoint was fine-tuned for {known}, not for {column}")
    for name in found:
        if described[name]["is_regression"]:
            return name
    raise UserError(
        f"export: the checkpoint answers {column} in classes, and a submission gives numbers; "
        "fine-tune with label.type: regression"
    )


def _check_windows(metadata: Mapping[str, Any], channel_names: list[str]) -> None:
    """Check that a checkpoint takes the windows that the challenge gives."""
    parameters = metadata.get("parameters", {})
    if parameters.get("encoder", {}).get("kind") == "external":
        raise UserError(
            f"export: the encoder is {parameters['encoder']['target']}, and a submission holds the "
            "code of this project alone"
        )
    if parameters.get("input", {}).get("unit") != "volts":
        raise UserError(
            "export: the checkpoint takes signals of the store, and a submission is given volts; "
            "fine-tune with input.unit: volts"
        )
    sfreq, n_samples = metadata["sfreq"], metadata["n_samples"]
    if (sfreq, n_samples) != (SFREQ, N_SAMPLES):
        raise UserError(
            f"export: the checkpoint takes {n_samples} samples at {sfreq:g} Hz; a submission is "
            f"given {N_SAMPLES} samples at {SFREQ} Hz"
        )
    if channel_names != list(metadata["channel_names"]):
        raise UserError(
            f"export: the signal store has {len(channel_names)} channels, others or in another "
            f"order than the {len(metadata['channel_names'])} of the checkpoint"
        )
    if not set(CHANNELS) & set(channel_names):
        raise UserError(f"export: none of the checkpoint's channels is one of {CHANNELS[0]} to Cz")
