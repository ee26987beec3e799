"""Maps from any set of electrodes to a fixed number of signals, as functions of position."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .electrodes import DIRECTIONS_10_20

WHITENING_FLOOR = 0.003  # of the mean variance of the directions


class VirtualElectrodes(nn.Module):
    """Averages of the channels around fixed directions; nothing is learned.

    Each virtual electrode is a softmax(κ · cosine) average over the channels that are present,
    so a missing or hidden channel drops out and its neighbours take its place. The larger κ, the
    sharpness, the fewer channels around a direction count.
    """

    directions: Tensor

    def __init__(
        self,
        sharpness: float,
        directions: Iterable[tuple[float, float, float]] = DIRECTIONS_10_20.values(),
    ) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.keep_weights = False
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
        points = torch.tensor(list(directions))
        points = points / points.norm(dim=1, keepdim=True)
        self.register_buffer("directions", points, persistent=False)

    def __len__(self) -> int:
        return len(self.directions)

    def weights(self, positions: Tensor, mask: Tensor) -> Tensor:
        """Weights (B, V, C) from positions (C, 3) and present channels (B, C).

        A window without any channel gets zeros. With `keep_weights` those of the last montage and
        mask are kept, where all windows have the same mask.
        """
        if not self.keep_weights or not len(mask):
            return self._weights(positions, mask)
        first = mask[:1]
        if not torch.equal(mask, first.expand_as(mask)):
            return self._weights(positions, mask)
        kept = self._kept
        if kept is None or not (torch.equal(kept[0], positions) and torch.equal(kept[1], first)):
            kept = self._kept = positions, first.clone(), self._weights(positions, first)
        return kept[2].expand(len(mask), -1, -1)

    def _weights(self, positions: Tensor, mask: Tensor) -> Tensor:
        cosines = self.directions @ positions.T
        logits = (self.sharpness * cosines).expand(len(mask), -1, -1)
        hidden = ~mask[:, None, :]
        weights = logits.masked_fill(hidden, -math.inf).softmax(-1)
        return weights.masked_fill(hidden, 0.0)  # a softmax over nothing is NaN

    def forward(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Signals (B, V, T) at the virtual electrodes from channels (B, C, T)."""
        return self.weights(positions, mask) @ signals


class SpatialComponents(nn.Module):
    """Learned mixtures of channels whose weights are smooth functions of position.

    A component's weight at an electrode is a sum of Fourier features of its x, y, z; the mixture
    is the mean over the channels present, so that it means the same for any montage.

    Neighbouring electrodes see almost the same, and a mixture that cancels what they share is the
    difference of large weights, which gradient descent hardly finds. Whitened, the components mix
    `n_whitened` directions that are uncorrelated and of equal variance in the training windows
    instead. The spatial frequencies, each a sine and a cosine, have the standard deviation
    `spatial_scale`.
    """

    frequencies: Tensor
    whitener: Tensor

    def __init__(
        self, n_components: int, n_frequencies: int, spatial_scale: float, n_whitened: int = 0
    ) -> None:
        super().__init__()
        self.n_whitened = n_whitened
        self.register_buffer("frequencies", spatial_scale * torch.randn(3, n_frequencies))
        if n_whitened:
            self.mix = nn.Linear(n_whitened, n_components, bias=False)
            nn.init.orthogonal_(self.mix.weight)
            self.register_buffer("whitener", torch.eye(n_whitened, 2 * n_frequencies))
        else:
            self.mix = nn.Linear(2 * n_frequencies, n_components)
            nn.init.normal_(self.mix.weight, std=n_frequencies**-0.5)

    def functions(self, positions: Tensor) -> Tensor:
        """Fourier features (2F, C) of positions (C, 3)."""
        phases = positions @ self.frequencies
        return torch.cat([phases.sin(), phases.cos()], dim=-1).T

    def weights(self, positions: Tensor) -> Tensor:
        """Weights (K, C) of the components at positions (C, 3)."""
        functions = self.functions(positions)
        if self.n_whitened:
            return self.mix.weight @ (self.whitener @ functions)
        return self.mix(functions.T).T

    def forward(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Components (B, K, T) of channels (B, C, T) at positions (C, 3).

        In single precision also under autocast: a mixture may be the small difference of large
        signals.
        """
        with torch.autocast(signals.device.type, enabled=False):
            return _mixed(self.weights(positions.float()), signals.float(), mask)

    def covariance(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Sum (2F, 2F) over windows of the covariances of mixtures by single Fourier features."""
        mixtures = _mixed(self.functions(positions), signals, mask)
        along = mixtures.transpose(0, 1).flatten(1)
        return along @ along.T / mixtures.shape[-1]

    @torch.no_grad()
    def fit_whitening(self, covariance: Tensor) -> None:
        """Take the directions of largest variance, given the mean `covariance` (2F, 2F).

        A share of the mean variance is added to each, so that sensor noise is not amplified.
        """
        values, directions = torch.linalg.eigh(covariance.double())
        values, directions = values[-self.n_whitened :], directions[:, -self.n_whitened :]
        floor = (WHITENING_FLOOR * values.mean()).clamp_min(1e-12)
        rows = (directions / (values + floor).sqrt()).T
        self.whitener.zero_()
        self.whitener[: len(rows)] = rows.to(self.whitener)


def _mixed(weights: Tensor, signals: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, K, T) over the channels present of weights (K, C) times signals (B, C, T)."""
    present = mask.to(weights.dtype)
    share = present / present.sum(-1, keepdim=True).clamp_min(1.0)
    return (weights * share[:, None, :]) @ signals
