"""Targets that stand for tokens, and the prediction of those whose tokens were left out.

Leaving tokens out of the trunk saves their cost, which a mask token would not; the prediction is
one light layer of cross-attention, whose queries are the positions left out (He et al. 2022; Fu et
al. 2024). Targets of patches come from the virtual electrodes, which are not learned and so cannot
collapse: the slow waveform and the log power per patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.models import symmetric
from hbn_foundation.models.band_tokens import BandTokens
from hbn_foundation.models.spatial import VirtualElectrodes
from hbn_foundation.models.time_tokens import PatchSpectrum, TimeTokens, cut_patches

SLOW_STEPS = 4  # points of the slow waveform per patch


class LeftOutPredictor(nn.Module):
    """Predict `n_out` values at each position whose token was left out: one cross-attention."""

    def __init__(self, dim: int, n_heads: int, n_positions: int, n_out: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.position = nn.Parameter(0.02 * torch.randn(n_positions, dim))
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, n_out)

    def forward(self, tokens: Tensor, asked: Tensor) -> Tensor:
        """Values (B, M, n_out) at positions `asked` (B, M) from tokens (B, N, D)."""
        queries = self.query(self.position)[asked].unflatten(-1, (self.n_heads, -1))
        key_value = self.key_value(tokens).unflatten(-1, (2, self.n_heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            queries.transpose(1, 2).to(key.dtype), key, value
        )
        mixed = self.mix(mixed.transpose(1, 2).flatten(2)) + self.position[asked]
        return self.out(functional.gelu(self.norm(mixed)))


def choose(
    n_windows: int, n_tokens: int, n_hidden: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw visible (B, V) and hidden (B, M) tokens of each window, in ascending order."""
    order = torch.rand(n_windows, n_tokens, device=device).argsort(1)
    hidden, visible = order[:, :n_hidden], order[:, n_hidden:]
    return visible.sort(1).values, hidden.sort(1).values


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, M) of values (B, P, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


class BandTargets(nn.Module):
    """Principal coordinates of each band's tangent, natural variances kept, one common scale."""

    coordinates: Tensor

    def __init__(self, band_tokens: BandTokens, n_coordinates: int) -> None:
        super().__init__()
        n_bands, size = band_tokens.centre.shape
        self.n_tokens = n_bands
        self.n_out = min(n_coordinates, size)
        self.shape = n_bands, self.n_out
        self.register_buffer("coordinates", torch.zeros(n_bands, size, self.n_out))

    @torch.no_grad()
    def fit(self, covariance: Tensor) -> None:
        """Compute the principal coordinates from the covariance (bands, 190, 190) of tangents."""
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


class BandCompletion(BandTargets):
    """Targets and decoders for the band tokens.

    The target is the first principal coordinates of each band's clean tangent, with their natural
    variances and one common scale. One linear map, shared by the bands, decodes the tokens that
    are there; bands left out, `mask_share` of all but at least one less, are predicted from all
    tokens.
    """

    def __init__(
        self,
        band_tokens: BandTokens,
        hidden_dim: int,
        n_heads: int,
        n_coordinates: int,
        mask_share: float,
    ) -> None:
        super().__init__(band_tokens, n_coordinates)
        n_bands = self.n_tokens
        self.n_hidden = min(round(mask_share * n_bands), n_bands - 1)
        self.decode = nn.Linear(hidden_dim, self.n_out)
        self.predict = (
            LeftOutPredictor(hidden_dim, n_heads, n_bands, self.n_out) if self.n_hidden else None
        )

    def score(
        self, mixed: Tensor, corrupted: Tensor, target: Tensor, visible: Tensor, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over all bands, and the scores of the trivial predictors.

        Parameters
        ----------
        mixed
            (B, N, D) all tokens after the trunk, the visible bands' first.
        corrupted
            (B, bands, 190) tangents of what the encoder saw, read at the visible bands only.
        target
            (B, bands, n_coordinates) of the truth.
        visible, hidden
            (B, V) and (B, M) bands.
        """
        copied = self.project(corrupted)
        truth = gather(target, visible)
        decoded = self.decode(mixed[:, : visible.shape[1]]).float()
        errors = (decoded - truth).square().mean(-1)
        copy = (gather(copied, visible) - truth).square().mean(-1)
        own: dict[str, Tensor] = {}
        if self.predict is not None:
            truth = gather(target, hidden)
            left_out = (self.predict(mixed, hidden).float() - truth).square().mean(-1)
            mean = truth.square().mean(-1)
            own = {
                "masked_band_loss": left_out.detach().mean(),
                "trivial_masked_band_mean": mean.mean(),
            }
            errors, copy = torch.cat([errors, left_out], 1), torch.cat([copy, mean], 1)
        loss = errors.mean()
        return loss, {
            "band_loss": loss.detach(),
            "trivial_copy": copy.mean(),
            "trivial_band_mean": target.square().mean(),
            **own,
        }


class MaskedPatches(nn.Module):
    """Targets and predictor for the time tokens.

    `mask_share` of the patches are left out, but at least one, and at least one is not. The targets
    are taken from virtual electrodes of this sharpness.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        time_tokens: TimeTokens,
        hidden_dim: int,
        n_heads: int,
        mask_share: float,
        sharpness: float,
    ) -> None:
        super().__init__()
        self.n_tokens = n_patches = len(time_tokens)
        self.n_hidden = min(max(round(mask_share * n_patches), 1), n_patches - 1)
        self.patch_samples = time_tokens.patch_samples
        self.electrodes = VirtualElectrodes(sharpness)
        self.spectrum = PatchSpectrum(self.patch_samples)
        slow = min(SLOW_STEPS, self.patch_samples)
        self.pool = nn.AdaptiveAvgPool1d(slow)
        size = len(self.electrodes) * (slow + self.spectrum.n_bins)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.predict = LeftOutPredictor(hidden_dim, n_heads, n_patches, size)

    def raw_targets(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Slow waveform and log power (B, patches, size) of channels (B, C, T)."""
        virtual = self.electrodes(signals, positions, mask)
        patches = cut_patches(virtual, self.patch_samples)
        slow = self.pool(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        return torch.cat([slow, self.spectrum(patches)], -1).flatten(2)

    @torch.no_grad()
    def targets(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Standardised targets (B, patches, size)."""
        with torch.autocast(signals.device.type, enabled=False):
            raw = self.raw_targets(signals.float(), positions.float(), mask)
            return (raw - self.centre) / self.scale

    @torch.no_grad()
    def fit(self, batches: Iterable[Any], positions: Tensor) -> None:
        """Fit mean and standard deviation of the targets on training windows."""
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            usable = batch.mask.any(-1)
            if usable.any():
                raw = self.raw_targets(batch.signals[usable], positions, batch.mask[usable])
                count += raw.shape[0] * raw.shape[1]
                total = total + raw.double().sum((0, 1))
                square = square + raw.double().square().sum((0, 1))
        mean = total / count
        self.centre.copy_(mean)
        self.scale.copy_((square / count - mean.square()).clamp_min(1e-8).sqrt())

    def score(
        self, mixed: Tensor, targets: Tensor, visible: Tensor, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss at the hidden patches, and the scores of the trivial predictors.

        Parameters
        ----------
        mixed
            (B, N, D) all tokens after the trunk.
        targets
            (B, patches, size).
        visible, hidden
            (B, V) and (B, M) patches.
        """
        truth = gather(targets, hidden)
        loss = functional.mse_loss(self.predict(mixed, hidden).float(), truth)
        visible_mean = gather(targets, visible).mean(1, keepdim=True)
        return loss, {
            "patch_loss": loss.detach(),
            "trivial_patch_mean": truth.square().mean(),
            "trivial_visible_patches": (truth - visible_mean).square().mean(),
        }
