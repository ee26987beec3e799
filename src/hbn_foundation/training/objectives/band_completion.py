"""Complete the band spectra: predict those of the clean, whole scalp from a corrupted window.

Trivial predictors: copying the corrupted input's own coordinates, and the training mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.models.band_tokens import BandTokens


class BandCompletion(nn.Module):
    """Targets, mask token and decoder for the band tokens.

    The target is the first principal coordinates of each band's clean tangent, with their natural
    variances and one common scale; the decoder is one linear map shared by the bands.

    Parameters
    ----------
    band_tokens
        The encoder's tokeniser.
    hidden_dim
        Width of a token.
    n_coordinates
        Principal coordinates per band.
    mask_share
        Share of the band tokens replaced by a mask token.
    """

    coordinates: Tensor

    def __init__(
        self, band_tokens: BandTokens, hidden_dim: int, n_coordinates: int, mask_share: float
    ) -> None:
        super().__init__()
        n_bands, size = band_tokens.centre.shape
        self.n_masked = round(mask_share * n_bands)
        self.register_buffer("coordinates", torch.zeros(n_bands, size, min(n_coordinates, size)))
        self.mask_token = nn.Parameter(0.02 * torch.randn(hidden_dim))
        self.decoder = nn.Linear(hidden_dim, self.coordinates.shape[-1])

    @torch.no_grad()
    def fit(self, covariance: Tensor) -> None:
        """Take the principal coordinates from the covariance (bands, 190, 190) of tangents."""
        values, vectors = torch.linalg.eigh(covariance.double())
        first = vectors.flip(-1)[..., : self.coordinates.shape[-1]]
        variance = values.flip(-1)[..., : self.coordinates.shape[-1]].mean().clamp_min(1e-12)
        self.coordinates.copy_(first / variance.sqrt())

    def project(self, tangents: Tensor) -> Tensor:
        """Coordinates (B, bands, n_coordinates) of tangents (B, bands, 190)."""
        with torch.autocast(tangents.device.type, enabled=False):
            return torch.einsum("wbi,bik->wbk", tangents.float(), self.coordinates)

    def choose_masked(self, n_windows: int, device: torch.device) -> Tensor:
        """Draw the masked bands (B, bands), the same number in each window."""
        n_bands = len(self.coordinates)
        order = torch.rand(n_windows, n_bands, device=device).argsort(1).argsort(1)
        return order < self.n_masked

    def mask(self, tokens: Tensor, masked: Tensor, position: Tensor) -> Tensor:
        """Replace masked tokens (B, bands, D) by the mask token at the same position."""
        return torch.where(masked[..., None], self.mask_token + position, tokens)

    def score(
        self, mixed: Tensor, corrupted: Tensor, clean: Tensor, masked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and the scores of the trivial predictors.

        Parameters
        ----------
        mixed
            (B, bands, D) tokens after the trunk.
        corrupted, clean
            (B, bands, 190) tangents of what the encoder saw and of the truth.
        masked
            (B, bands).
        """
        target = self.project(clean)
        errors = (self.decoder(mixed).float() - target).square().mean(-1)
        mean = target.square().mean(-1)
        copy = (self.project(corrupted) - target).square().mean(-1)
        loss = errors.mean()
        scores = {
            "band_loss": loss.detach(),
            "trivial_copy": torch.where(masked, mean, copy).mean(),
            "trivial_band_mean": mean.mean(),
        }
        if self.n_masked:
            scores["masked_band_loss"] = errors.detach()[masked].mean()
            scores["trivial_masked_band_mean"] = mean[masked].mean()
        return loss, scores
