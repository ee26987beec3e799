"""One token per frequency band: the log-Euclidean cross-spectrum of the virtual electrodes.

Method: real cross-spectrum per band, shrunk towards the scaled identity, whitened by the
log-Euclidean mean of the training windows, matrix logarithm, upper triangle; as in Barachant et
al. 2012 (tangent space) and Sabbagh et al. 2020 (per frequency band). No scaling per dimension:
the natural variances carry the information.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import symmetric
from .config import BandTokenConfig
from .spatial import VirtualElectrodes


class BandTokens(nn.Module):
    """Band tokens, `hidden_dim` wide, of windows of `n_samples` samples at `sfreq` Hz."""

    tapers: Tensor
    whitener: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self, config: BandTokenConfig, sfreq: float, n_samples: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.shrinkage = config.shrinkage
        self.electrodes = VirtualElectrodes(config.sharpness)
        self.bins = band_bins(config.edges, sfreq, n_samples)
        n_bands, n_channels = len(self.bins), len(self.electrodes)
        size = n_channels * (n_channels + 1) // 2
        self.register_buffer(
            "tapers", make_tapers(config.taper, config.n_tapers, n_samples), persistent=False
        )
        self.register_buffer("whitener", torch.eye(n_channels).repeat(n_bands, 1, 1))
        self.register_buffer("centre", torch.zeros(n_bands, size))
        self.register_buffer("scale", torch.ones(n_bands))
        self.project = nn.ModuleList(nn.Linear(size, hidden_dim) for _ in range(n_bands))
        self.position = nn.Parameter(0.02 * torch.randn(n_bands, hidden_dim))

    def __len__(self) -> int:
        return len(self.bins)

    def cross_spectra(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Shrunk real cross-spectra (B, bands, 19, 19) of channels (B, C, T)."""
        virtual = self.electrodes(signals, positions, mask)
        spectrum = torch.fft.rfft(virtual[:, :, None, :] * self.tapers)  # (B, 19, tapers, bins)
        bands = []
        for low, high in self.bins:
            part = torch.view_as_real(spectrum[..., low:high]).flatten(2)
            bands.append(part @ part.mT / (high - low))
        return symmetric.shrink(torch.stack(bands, 1), self.shrinkage)

    def tangents(
        self, signals: Tensor, positions: Tensor, mask: Tensor, bands: Tensor | None = None
    ) -> Tensor:
        """Tangent vectors (B, bands, 190), centred, one scale per band.

        In single precision also under autocast; without gradient, as nothing before is learned.
        A window without any channel gets zeros, the training mean, and so do bands that are not
        among those wanted, `bands` (B, V): the matrix logarithm takes most of the time.
        """
        with torch.no_grad(), torch.autocast(signals.device.type, enabled=False):
            spectra = self.cross_spectra(signals.float(), positions.float(), mask)
            if bands is None:
                return self._vectors(spectra, self.whitener, self.centre, self.scale, mask)
            window = torch.arange(len(signals), device=signals.device)[:, None]
            wanted = torch.zeros(len(signals), *self.centre.shape, device=signals.device)
            wanted[window, bands] = self._vectors(
                spectra[window, bands], self.whitener[bands], self.centre[bands],
                self.scale[bands], mask,
            )  # fmt: skip
            return wanted

    @staticmethod
    def _vectors(
        spectra: Tensor, whitener: Tensor, centre: Tensor, scale: Tensor, mask: Tensor
    ) -> Tensor:
        """Tangent vectors (B, V, 190) of cross-spectra (B, V, 19, 19)."""
        logs = symmetric.log(whitener @ spectra @ whitener)
        vectors = (symmetric.upper_triangle(logs) - centre) / scale[..., None]
        return vectors * mask.any(-1)[:, None, None]

    def forward(self, tangents: Tensor) -> Tensor:
        """Tokens (B, bands, D) from tangent vectors (B, bands, 190)."""
        tokens = [layer(tangents[:, band]) for band, layer in enumerate(self.project)]
        return torch.stack(tokens, 1) + self.position


@dataclass
class Moments:
    """Running sums, in double precision, from which a mean and a covariance follow."""

    count: int = 0
    total: Tensor | float = 0.0
    outer: Tensor | float = 0.0

    def add(self, values: Tensor, outer: bool = False) -> None:
        """Add values (B, bands, size)."""
        values = values.double()
        self.count += len(values)
        self.total = self.total + values.sum(0)
        if outer:
            by_band = values.transpose(0, 1)
            self.outer = self.outer + by_band.mT @ by_band

    @property
    def mean(self) -> Tensor:
        """Mean (bands, size)."""
        return torch.as_tensor(self.total) / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance (bands, size, size)."""
        mean = self.mean
        return torch.as_tensor(self.outer) / self.count - mean[:, :, None] * mean[:, None, :]


def band_bins(
    edges: tuple[tuple[float, float], ...], sfreq: float, n_samples: int
) -> list[tuple[int, int]]:
    """First and last-but-one Fourier bin of each band; a band without a bin is a ValueError."""
    width = sfreq / n_samples
    bins = []
    for low, high in edges:
        first = math.ceil(low / width - 1e-6)
        stop = min(math.ceil(high / width - 1e-6), n_samples // 2 + 1)
        if stop <= first:
            raise ValueError(
                f"band ({low}, {high}) Hz holds no frequency of a window of {n_samples} samples "
                f"at {sfreq:g} Hz"
            )
        bins.append((first, stop))
    return bins


def make_tapers(kind: str, n_tapers: int, n_samples: int) -> Tensor:
    """Tapers (K, T) of unit energy: one Hann, or K sine tapers (Riedel and Sidorenko 1995)."""
    if kind == "hann":
        tapers = torch.hann_window(n_samples + 2, periodic=False, dtype=torch.float64)[1:-1][None]
    else:
        order = torch.arange(1, n_tapers + 1, dtype=torch.float64)[:, None]
        time = torch.arange(1, n_samples + 1, dtype=torch.float64)
        tapers = torch.sin(math.pi * order * time / (n_samples + 1))
    tapers = tapers / tapers.norm(dim=1, keepdim=True)
    return (tapers / len(tapers) ** 0.5).float()
