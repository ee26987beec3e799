"""One token per patch of time, from a few spatial components of the window."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import TimeTokenConfig
from .spatial import SpatialComponents
from .trunk import Dropout

SMALLEST_POWER = 1e-4  # of robust z-scores: below what an amplifier's noise leaves


class TimeTokens(nn.Module):
    """Base of time tokens; a subclass says what a token is made from.

    Samples of a window after its last whole patch are not used.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, config: TimeTokenConfig, sfreq: float, n_samples: int) -> None:
        super().__init__()
        self.patch_samples = patch_length(config.patch_seconds, sfreq, n_samples)
        self.n_patches = n_samples // self.patch_samples
        self.components = SpatialComponents(
            config.n_components, config.n_frequencies, config.spatial_scale, config.n_whitened
        )

    def add_projection(self, n_normalised: int, n_inputs: int, hidden_dim: int) -> None:
        """Add the normalisation, the projection to tokens and their positions."""
        self.register_buffer("centre", torch.zeros(n_normalised))
        self.register_buffer("scale", torch.ones(n_normalised))
        self.project = nn.Linear(n_inputs, hidden_dim)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_patches, hidden_dim))

    def __len__(self) -> int:
        return self.n_patches

    def raw_features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Features (B, n, size) of channels (B, C, T) before normalisation."""
        raise NotImplementedError

    def features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Features (B, n, size); zeros, the training mean, for a window without channels."""
        features = (self.raw_features(signals, positions, mask) - self.centre) / self.scale
        return features * mask.any(-1)[:, None, None]

    def without(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Features with nothing of the patches `hidden` (B, M) in those of other patches."""
        return features


class PatchTokens(TimeTokens):
    """Time tokens from the waveform and the short-time spectrum of each patch."""

    def __init__(
        self, config: TimeTokenConfig, sfreq: float, n_samples: int, hidden_dim: int
    ) -> None:
        super().__init__(config, sfreq, n_samples)
        self.spectrum = PatchSpectrum(self.patch_samples)
        size = config.n_components * (self.patch_samples + self.spectrum.n_bins)
        self.add_projection(size, size, hidden_dim)

    def raw_features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Features (B, patches, size) of channels (B, C, T) before normalisation."""
        components = self.components(signals, positions, mask)
        patches = cut_patches(components, self.patch_samples)
        return torch.cat([patches, self.spectrum(patches)], -1).flatten(2)

    def forward(self, features: Tensor) -> Tensor:
        """Tokens (B, patches, D) from features (B, patches, size)."""
        return self.project(features) + self.position


class ConvTokens(TimeTokens):
    """Time tokens from convolutions of the spatial components along time.

    Patches cut time at fixed edges, so that an event at an edge looks different from one in the
    middle. Convolutions run over the components first: a token then also depends on the samples
    around its stretch (as in Lawhern et al. 2018, with spatial weights that are functions of
    position).
    """

    def __init__(
        self, config: TimeTokenConfig, sfreq: float, n_samples: int, hidden_dim: int
    ) -> None:
        super().__init__(config, sfreq, n_samples)
        # steps of the courses that make one token
        self.steps = next(n for n in (config.steps, 2, 1) if self.patch_samples % n == 0)
        stride = self.patch_samples // self.steps
        width, kernel, dropout = config.width, config.kernel, config.conv_dropout
        short = 2 * (kernel // 4) + 1
        self.layers = nn.Sequential(
            Convolution(config.n_components, width, kernel, dropout),
            Convolution(width, width, kernel, dropout, stride),
            *(Convolution(width, width, short, dropout) for _ in range(config.depth)),
        )
        self.add_projection(config.n_components, self.steps * width, hidden_dim)

    def raw_features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Courses (B, T, components) of channels (B, C, T) before normalisation."""
        return self.components(signals, positions, mask).mT

    def without(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Courses (B, T, components) with the training mean in place of patches `hidden` (B, M).

        A convolution would otherwise carry them into the tokens of neighbouring patches.
        """
        kept = features.new_ones(len(features), self.n_patches).scatter_(1, hidden, 0.0)
        kept = kept.repeat_interleave(self.patch_samples, 1)
        rest = features.shape[1] - kept.shape[1]  # samples after the last patch
        return features * functional.pad(kept, (0, rest), value=1.0)[..., None]

    def forward(self, features: Tensor) -> Tensor:
        """Tokens (B, patches, D) from courses (B, T, components)."""
        used = features[:, : self.n_patches * self.patch_samples]
        courses = self.layers(used.mT)[..., : self.n_patches * self.steps]
        steps = courses.mT.unflatten(1, (self.n_patches, self.steps)).flatten(2)
        return self.project(steps) + self.position


class Convolution(nn.Module):
    """A convolution along time, its norm, GELU, dropout; a residual branch where widths agree."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dropout: float, stride: int = 1) -> None:
        super().__init__()
        self.residual = n_in == n_out and stride == 1
        self.convolution = nn.Conv1d(n_in, n_out, kernel, stride, padding=kernel // 2)
        self.norm = nn.GroupNorm(1, n_out)
        self.dropout = Dropout(dropout)

    def forward(self, courses: Tensor) -> Tensor:
        """Courses (B, n_in, T) to (B, n_out, T / stride)."""
        found = self.dropout(functional.gelu(self.norm(self.convolution(courses))))
        return courses + found if self.residual else found


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
