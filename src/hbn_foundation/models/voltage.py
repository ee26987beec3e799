"""From volts to what encoders take, by rules that need one window alone.

A single window comes without the scale of its recording and the list of its bad channels. Here
each channel has a fixed scale, fitted on training subjects, and channels are rejected by the window
alone: those that are flat, and those of too large an amplitude (`wild`). Training, predictions and
exported models all use this module, and so see the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import InputConfig

VOLTS = 1e-6  # of a microvolt
TYPICAL_LEVEL = 0.8  # mean amplitude of a Gaussian in its own standard deviations


class VoltageInput(nn.Module):
    """Windows in volts to signals like the signal store's robust z-scores, and usable channels.

    The channel at `config.reference` may be missing, as a recording's reference often is; it is
    put in as zeros, which makes it flat.
    """

    scale: Tensor

    def __init__(self, config: InputConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("scale", torch.full((config.n_channels,), 10 * VOLTS))

    def complete(self, volts: Tensor) -> Tensor:
        """Put a missing reference channel in, (B, C - 1, T) to (B, C, T); else a ValueError."""
        n_channels = len(self.scale)
        if volts.shape[1] == n_channels:
            return volts
        place = self.config.reference
        if place is None or volts.shape[1] != n_channels - 1:
            raise ValueError(f"{volts.shape[1]} channels; expected {n_channels}")
        before, after = volts[:, :place], volts[:, place:]
        return torch.cat([before, torch.zeros_like(volts[:, :1]), after], 1)

    def forward(self, volts: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Signals (B, C, T), zero where a channel cannot be used, and usable channels (B, C).

        Volts (B, C, T) may hold what is not finite; `present` (B, C) is false where a channel is
        missing or hidden.
        """
        volts = self.complete(volts)
        finite = volts.isfinite().all(-1)
        # microvolts first: squares of volts would be lost in single precision
        signals = torch.where(finite[..., None], volts, 0.0) / VOLTS
        signals = signals - signals.mean(-1, keepdim=True)
        moves = signals.amax(-1) - signals.amin(-1) >= self.config.flat_uv
        usable = finite & moves if present is None else finite & moves & present
        signals = signals / (self.scale / VOLTS)[:, None]
        level = signals.abs().mean(-1)
        # the median of the usable ones, which are first; torch's own differs on a GPU from call
        # to call in its index, and is refused where algorithms are to be deterministic
        middle = (usable.sum(1, keepdim=True) - 1).clamp_min(0) // 2
        typical = level.masked_fill(~usable, torch.inf).sort(1).values.gather(1, middle)
        usable = usable & (level <= self.config.wild * typical)
        if self.config.window_gain:
            signals = signals * (TYPICAL_LEVEL / typical)[..., None]
        signals = signals.clamp(-self.config.clip, self.config.clip)
        return signals * usable[..., None], usable
