"""One token per patch of time: waveform and short-time spectrum of a few spatial components."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hbn_foundation.models.config import TimeTokenConfig
from hbn_foundation.models.spatial import SpatialComponents

SMALLEST_POWER = 1e-4  # of robust z-scores: below what an amplifier's noise leaves


class PatchSpectrum(nn.Module):
    """Log power of short patches, by a matrix product instead of many tiny FFTs."""

    basis: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.n_bins = length // 2 + 1
        time = torch.arange(length, dtype=torch.float64)
        phase = 2 * math.pi * time[:, None] * torch.arange(self.n_bins) / length
        taper = torch.hann_window(length + 2, periodic=False, dtype=torch.float64)[1:-1, None]
        basis = taper * torch.cat([phase.cos(), phase.sin()], 1) / taper.norm()
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Log power (..., length // 2 + 1) of patches (..., length), in single precision."""
        with torch.autocast(patches.device.type, enabled=False):
            cosine, sine = (patches.float() @ self.basis).split(self.n_bins, -1)
            return (cosine.square() + sine.square() + SMALLEST_POWER).log()


class TimeTokens(nn.Module):
    """Time tokens of a window.

    Parameters
    ----------
    config
        Patch length, spatial components.
    sfreq, n_samples
        Sampling rate in Hz and length of a window; samples after the last whole patch are unused.
    hidden_dim
        Width of a token.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, config: TimeTokenConfig, sfreq: float, n_samples: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.patch_samples = patch_length(config.patch_seconds, sfreq, n_samples)
        self.n_patches = n_samples // self.patch_samples
        self.components = SpatialComponents(
            config.n_components,
            config.n_frequencies,
            config.spatial_scale,
            config.n_whitened,
        )
        self.spectrum = PatchSpectrum(self.patch_samples)
        size = config.n_components * (self.patch_samples + self.spectrum.n_bins)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.project = nn.Linear(size, hidden_dim)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_patches, hidden_dim))

    def __len__(self) -> int:
        return self.n_patches

    def raw_features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Features (B, patches, size) of channels (B, C, T) before normalisation."""
        components = self.components(signals, positions, mask)
        patches = cut_patches(components, self.patch_samples)
        return torch.cat([patches, self.spectrum(patches)], -1).flatten(2)

    def features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Features (B, patches, size); zeros, the training mean, for a window without channels."""
        features = (self.raw_features(signals, positions, mask) - self.centre) / self.scale
        return features * mask.any(-1)[:, None, None]

    def without(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Features with nothing of the patches `hidden` in any other's: as they are."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Tokens (B, patches, D) from features (B, patches, size)."""
        return self.project(features) + self.position


def patch_length(seconds: float, sfreq: float, n_samples: int) -> int:
    """Length of a patch in samples; a patch longer than the window is a ValueError."""
    length = round(seconds * sfreq)
    if not 2 <= length <= n_samples:
        raise ValueError(
            f"a patch of {seconds:g} s is {length} samples at {sfreq:g} Hz; "
            f"expected 2 to {n_samples}, the window's length"
        )
    return length


def cut_patches(signals: Tensor, length: int) -> Tensor:
    """Patches (B, P, K, length) of signals (B, K, T)."""
    return signals.unfold(-1, length, length).transpose(1, 2)
