"""Maps from any set of electrodes to a fixed number of signals, as functions of position."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Directions of the 19 electrodes of the 10-20 system in MNE's head coordinates (template
#: `standard_1005`, scaled to unit length): x to the right, y to the front, z up.
DIRECTIONS_10_20: dict[str, tuple[float, float, float]] = {
    "Fp1": (-0.253, 0.940, 0.229),
    "Fp2": (0.233, 0.946, 0.227),
    "F7": (-0.680, 0.692, 0.244),
    "F3": (-0.405, 0.677, 0.615),
    "Fz": (-0.009, 0.673, 0.740),
    "F4": (0.396, 0.688, 0.608),
    "F8": (0.672, 0.701, 0.236),
    "T7": (-0.928, 0.160, 0.336),
    "C3": (-0.531, 0.185, 0.827),
    "Cz": (-0.010, 0.193, 0.981),
    "C4": (0.523, 0.189, 0.831),
    "T8": (0.924, 0.169, 0.344),
    "P7": (-0.784, -0.443, 0.435),
    "P3": (-0.450, -0.361, 0.817),
    "Pz": (-0.013, -0.336, 0.942),
    "P4": (0.439, -0.363, 0.822),
    "P8": (0.769, -0.458, 0.446),
    "O1": (-0.308, -0.787, 0.535),
    "O2": (0.274, -0.795, 0.541),
}


class VirtualElectrodes(nn.Module):
    """Averages of the channels around fixed directions; nothing is learned.

    Each virtual electrode is a softmax(κ · cosine) average over the channels that are present,
    so a missing or hidden channel drops out and its neighbours take its place.

    Parameters
    ----------
    sharpness
        κ: the larger, the fewer channels around a direction count.
    """

    directions: Tensor

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        directions = torch.tensor(list(DIRECTIONS_10_20.values()))
        directions = directions / directions.norm(dim=1, keepdim=True)
        self.register_buffer("directions", directions, persistent=False)

    def __len__(self) -> int:
        return len(self.directions)

    def weights(self, positions: Tensor, mask: Tensor) -> Tensor:
        """Weights (B, 19, C) from positions (C, 3) and present channels (B, C).

        A window without any channel gets zeros.
        """
        cosines = self.directions @ positions.T
        logits = (self.sharpness * cosines).expand(len(mask), -1, -1)
        hidden = ~mask[:, None, :]
        weights = logits.masked_fill(hidden, -math.inf).softmax(-1)
        return weights.masked_fill(hidden, 0.0)  # a softmax over nothing is NaN

    def forward(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Signals (B, 19, T) at the virtual electrodes from channels (B, C, T)."""
        return self.weights(positions, mask) @ signals


class SpatialComponents(nn.Module):
    """Learned mixtures of channels whose weights are smooth functions of position.

    A component's weight at an electrode is a sum of Fourier features of its x, y, z; the mixture
    is the mean over the channels present, so that it means the same for any montage.

    Parameters
    ----------
    n_components
        How many mixtures.
    n_frequencies
        Spatial frequencies, each a sine and a cosine.
    spatial_scale
        Standard deviation of the frequencies, which are drawn once and stay.
    """

    frequencies: Tensor

    def __init__(self, n_components: int, n_frequencies: int, spatial_scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", spatial_scale * torch.randn(3, n_frequencies))
        self.mix = nn.Linear(2 * n_frequencies, n_components)
        nn.init.normal_(self.mix.weight, std=n_frequencies**-0.5)

    def forward(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Components (B, K, T) of channels (B, C, T) at positions (C, 3)."""
        phases = positions @ self.frequencies
        weights = self.mix(torch.cat([phases.sin(), phases.cos()], dim=-1)).T  # (K, C)
        present = mask.to(weights.dtype)
        share = present / present.sum(-1, keepdim=True).clamp_min(1.0)
        return (weights * share[:, None, :]) @ signals
