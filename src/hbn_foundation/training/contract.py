"""A checkpoint's encoder as a module in the form of braindecode's models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.models.contract import EEGModel
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.external import directions_of
from hbn_foundation.training.model_building import head_config
from hbn_foundation.training.model_params import HeadParams


def braindecode_model(
    checkpoint: Checkpoint, chs_info: Sequence[Mapping[str, Any]], n_outputs: int
) -> EEGModel:
    """Put a new linear head on the encoder of a checkpoint, for channels of any montage.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint, or a fine-tuned one.
    chs_info
        A dictionary for each channel with its `ch_name`, of the 10-05 system or a net.
    n_outputs
        Classes or values.

    Raises
    ------
    UserError
        A channel without a known position, or an encoder that is of another package itself.
    """
    encoder = load_encoder(checkpoint)
    if encoder.is_external:
        raise UserError("checkpoint: its encoder is of another package; take its class itself")
    names = tuple(str(one["ch_name"]) for one in chs_info)
    positions = list(directions_of(names))
    head = head_config(HeadParams(subject_attenuation=0), n_outputs, classification=True)
    model = EEGModel(
        n_outputs, [{"ch_name": name} for name in names], positions, asdict(encoder.config),
        asdict(head),
    )  # fmt: skip
    model.model.encoder.load_state_dict(encoder.state_dict())
    return model
