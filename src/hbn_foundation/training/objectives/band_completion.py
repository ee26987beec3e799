"""Complete the band spectra: predict those of the clean, whole scalp from a corrupted window.

Trivial predictors: copying the corrupted input's own coordinates, and the training mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.models.band_tokens import BandTokens
from hbn_foundation.training.objectives.band_targets import BandTargets
from hbn_foundation.training.objectives.left_out import LeftOutPredictor, gather


class BandCompletion(BandTargets):
    """Targets and decoders for the band tokens.

    The target is the first principal coordinates of each band's clean tangent, with their natural
    variances and one common scale. One linear map, shared by the bands, decodes the tokens that
    are there; bands left out are predicted from all tokens.

    Parameters
    ----------
    band_tokens
        The encoder's tokeniser.
    hidden_dim, n_heads
        Of the encoder.
    n_coordinates
        Principal coordinates per band.
    mask_share
        Share of the band tokens left out; at least one band stays.
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
        self, mixed: Tensor, corrupted: Tensor, clean: Tensor, visible: Tensor, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over all bands, and the scores of the trivial predictors.

        Parameters
        ----------
        mixed
            (B, N, D) all tokens after the trunk, the visible bands' first.
        corrupted, clean
            (B, bands, 190) tangents of what the encoder saw, read at the visible bands only, and
            of the truth.
        visible, hidden
            (B, V) and (B, M) bands.
        """
        target, copied = self.project(clean), self.project(corrupted)
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
