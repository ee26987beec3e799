"""An encoder with a head in the form of braindecode's models, which it is trained like there."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from .config import MAIN, EncoderConfig, HeadConfig
from .encoder import Encoder
from .finetuned import make_finetuned


class EEGModel(nn.Module):
    """Windows (B, C, T) of one montage to outputs (B, n_outputs).

    Signals are robust z-scores of each channel over its recording, as of the signal store; a
    channel of zeros counts as missing. `model` has the blocks, for freezing and rates.

    Parameters
    ----------
    n_outputs
        Classes or values.
    chs_info
        A dictionary for each channel, with its `ch_name`, as in MNE's `info["chs"]`.
    positions
        (C, 3) unit vectors of these channels.
    encoder, head
        Plain values of `EncoderConfig` and of `HeadConfig`.
    """

    positions: Tensor

    def __init__(
        self,
        n_outputs: int,
        chs_info: list[dict[str, Any]],
        positions: list[tuple[float, float, float]],
        encoder: dict[str, Any],
        head: dict[str, Any],
    ) -> None:
        super().__init__()
        config = EncoderConfig.of(encoder)
        self.chs_info = [{"ch_name": str(one["ch_name"])} for one in chs_info]
        self.n_chans, self.n_times = len(chs_info), config.n_samples
        self.sfreq = config.sfreq
        self.register_buffer("positions", torch.tensor(positions, dtype=torch.float32))
        self.head = replace(HeadConfig(**head), n_outputs=n_outputs)
        self.model = make_finetuned(Encoder(config), {MAIN: self.head})

    @property
    def n_outputs(self) -> int:
        """Classes or values."""
        return self.head.n_outputs

    def reset_head(self, n_outputs: int) -> None:
        """Put a new head on the encoder."""
        self.head = replace(self.head, n_outputs=n_outputs)
        self.model = make_finetuned(self.model.encoder, {MAIN: self.head})

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that it is made again from, as JSON has them."""
        return {
            "n_outputs": self.n_outputs,
            "chs_info": self.chs_info,
            "positions": self.positions.tolist(),
            "encoder": asdict(self.model.encoder.config),
            "head": asdict(self.head),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EEGModel:
        """Make one with random weights from what `get_config` returned."""
        return cls(**config)

    def forward(self, x: Tensor, return_features: bool = False) -> Any:
        """Give outputs (B, n_outputs) of windows (B, C, T), or their tokens as `features`."""
        mask = (x != 0).any(-1)
        if return_features:
            return {"features": self.model.encoder(x, self.positions, mask), "cls_token": None}
        return self.model(x, self.positions, mask)
