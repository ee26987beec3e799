"""What band tokens are to predict: the first principal coordinates of tangent vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.models import symmetric
from hbn_foundation.models.band_tokens import BandTokens


class BandTargets(nn.Module):
    """Principal coordinates of each band's tangent, natural variances kept, one common scale.

    Parameters
    ----------
    band_tokens
        The encoder's tokeniser.
    n_coordinates
        Principal coordinates per band.
    """

    coordinates: Tensor

    def __init__(self, band_tokens: BandTokens, n_coordinates: int) -> None:
        super().__init__()
        n_bands, size = band_tokens.centre.shape
        self.n_tokens = n_bands
        self.n_out = min(n_coordinates, size)
        self.register_buffer("coordinates", torch.zeros(n_bands, size, self.n_out))

    @torch.no_grad()
    def fit(self, covariance: Tensor) -> None:
        """Take the principal coordinates from the covariance (bands, 190, 190) of tangents."""
        values, vectors = torch.linalg.eigh(covariance.double())
        variance = values.flip(-1)[..., : self.n_out].mean().clamp_min(1e-12)
        self.coordinates.copy_(vectors.flip(-1)[..., : self.n_out] / variance.sqrt())

    def project(self, tangents: Tensor) -> Tensor:
        """Coordinates (B, bands, n_coordinates) of tangents (B, bands, 190)."""
        with torch.autocast(tangents.device.type, enabled=False):
            by_band = tangents.float().transpose(0, 1) @ self.coordinates
            return by_band.transpose(0, 1)

    def of_gain(self, log_gains: Tensor, scale: Tensor) -> Tensor:
        """How far gains exp(`log_gains`) (B,) move the coordinates: (B, bands, n_coordinates).

        A gain multiplies the cross-spectra, and so adds a multiple of the identity to their
        logarithm, whatever the window. `scale` (bands,) is the tokeniser's.
        """
        n_bands, size, _ = self.coordinates.shape
        n_channels = round((2 * size + 0.25) ** 0.5 - 0.5)
        identity = torch.eye(n_channels, device=log_gains.device)
        direction = symmetric.upper_triangle(identity).expand(n_bands, -1) / scale[:, None]
        return 2 * log_gains[:, None, None] * self.project(direction[None])
