"""Predict patches of time that the encoder has not seen.

Targets come from the virtual electrodes, which are not learned and so cannot collapse: the slow
waveform and the log power per patch. Trivial predictors: the training mean, and the mean of the
window's visible patches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.models.spatial import VirtualElectrodes
from hbn_foundation.models.time_tokens import PatchSpectrum, TimeTokens, cut_patches
from hbn_foundation.training.objectives.left_out import LeftOutPredictor, gather

SLOW_STEPS = 4  # points of the slow waveform per patch


class MaskedPatches(nn.Module):
    """Targets and predictor for the time tokens.

    Parameters
    ----------
    time_tokens
        The encoder's tokeniser.
    hidden_dim, n_heads
        Of the encoder.
    mask_share
        Share of the patches left out; at least one is, and at least one is not.
    sharpness
        Of the virtual electrodes that the targets are taken from.
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
