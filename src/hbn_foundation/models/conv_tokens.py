"""Time tokens from convolutions: what a response looks like is learned once for all times.

A patch cuts time at fixed edges, and what happens at an edge looks different in every window. Here
a few spatial components run through convolutions along time first, so that a token sees what is
around its stretch, wherever in it something happens (as in Lawhern et al. 2018, with spatial
weights that are functions of position).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.models.config import TimeTokenConfig
from hbn_foundation.models.spatial import SpatialComponents
from hbn_foundation.models.time_tokens import patch_length
from hbn_foundation.models.trunk import Dropout


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


class ConvTokens(nn.Module):
    """Time tokens of a window, from convolutions of spatial components.

    Parameters
    ----------
    config
        Patch length, spatial components, convolutions.
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
        # so many steps of the courses make a token
        self.steps = next(n for n in (config.steps, 2, 1) if self.patch_samples % n == 0)
        stride = self.patch_samples // self.steps
        self.components = SpatialComponents(
            config.n_components,
            config.n_frequencies,
            config.spatial_scale,
            config.n_whitened,
        )
        self.register_buffer("centre", torch.zeros(config.n_components))
        self.register_buffer("scale", torch.ones(config.n_components))
        width, short = config.width, 2 * (config.kernel // 4) + 1
        self.layers = nn.Sequential(
            Convolution(config.n_components, width, config.kernel, config.conv_dropout),
            Convolution(width, width, config.kernel, config.conv_dropout, stride),
            *(Convolution(width, width, short, config.conv_dropout) for _ in range(config.depth)),
        )
        self.project = nn.Linear(self.steps * width, hidden_dim)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_patches, hidden_dim))

    def __len__(self) -> int:
        return self.n_patches

    def raw_features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Courses (B, T, components) of channels (B, C, T) before normalisation."""
        return self.components(signals, positions, mask).mT

    def features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Courses (B, T, components); zeros, the training mean, for a window without channels."""
        courses = (self.raw_features(signals, positions, mask) - self.centre) / self.scale
        return courses * mask.any(-1)[:, None, None]

    def without(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Courses (B, T, components) with the training mean in place of patches `hidden` (B, M).

        A convolution would else carry what it sees there into the tokens of the neighbours.
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
