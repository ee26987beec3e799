"""Self-supervision by corruption: band completion, masked patches, or both on one trunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.training.augmentation import hide_block, random_gain, white_noise
from hbn_foundation.training.objectives.base import (
    Objective,
    StepOutput,
    TrainingWindows,
    check_tokens,
    whole_tangents,
)
from hbn_foundation.training.objectives.token_targets import (
    BandCompletion,
    MaskedPatches,
    choose,
    gather,
)
from hbn_foundation.training.params import ObjectiveParams

FAMILIES = {
    "band_completion": ("band",),
    "masked_patches": ("time",),
    "masked": ("band", "time"),
}


class Masked(Objective):
    """Corrupt a window, and predict what the clean one has.

    A block of channels is hidden, noise is added, and some tokens are left out. A family of tokens
    that the objective does not name takes part whole.

    Parameters
    ----------
    params
        The objective's parameters; `name` says which families have a target.
    encoder
        The encoder that it will train.
    """

    def __init__(self, params: ObjectiveParams, encoder: Encoder) -> None:
        super().__init__()
        self.params = params
        families = FAMILIES[params.name]
        check_tokens(params, encoder, families)
        dim, n_heads = encoder.config.hidden_dim, encoder.config.n_heads
        self.spectra: Tensor | None = None  # targets of the windows as they are, by their number
        self.bands: BandCompletion | None = None
        self.patches: MaskedPatches | None = None
        if "band" in families and encoder.band is not None:
            self.bands = BandCompletion(
                encoder.band, dim, n_heads, params.n_coordinates, params.share_of_bands
            )
        if "time" in families and encoder.time is not None:
            self.patches = MaskedPatches(
                encoder.time, dim, n_heads, params.mask_patches, encoder.config.band.sharpness
            )

    @property
    def parts(self) -> dict[str, BandCompletion | MaskedPatches]:
        """What is to be predicted, by family of tokens."""
        both = {"band": self.bands, "time": self.patches}
        return {family: part for family, part in both.items() if part is not None}

    def fit(self, encoder: Encoder, on: TrainingWindows) -> None:
        """Fit the targets' coordinates and scales on training windows."""
        if self.bands is not None:
            self.bands.fit(on.statistics["band_covariance"])
        if self.patches is not None:
            self.patches.fit(on.batches, on.positions)

    @torch.no_grad()
    def begin(self, encoder: Encoder, batches: Iterable[Any], positions: Tensor) -> None:
        """Compute the bands' targets once for all epochs; their logarithms take long."""
        if self.bands is None or self.params.jitter_seconds or not self.training:
            return
        self.spectra = torch.zeros(self.n_numbers, *self.bands.shape)  # a GPU may be too small
        for numbers, tangents, _ in whole_tangents(encoder, batches, positions):
            self.spectra[numbers] = self.bands.project(tangents).cpu()

    def band_targets(
        self, encoder: Encoder, batch: Any, positions: Tensor, log_gains: Tensor
    ) -> Tensor:
        """Coordinates (B, bands, n_coordinates) of clean windows with a gain."""
        assert self.bands is not None
        assert encoder.band is not None
        if self.spectra is None:
            tangents = encoder.band.tangents(batch.signals, positions, batch.mask)
            found = self.bands.project(tangents)
        else:
            found = self.spectra[batch.target.cpu()].to(batch.signals.device)
        moved = self.bands.of_gain(log_gains, encoder.band.scale)
        return found + moved * batch.mask.any(-1)[:, None, None]

    def forward(self, encoder: Encoder, batch: Any, positions: Tensor) -> StepOutput:
        """Corrupt, encode, predict, score."""
        params, mask = self.params, batch.mask
        spread = params.gain if self.training else 0.0
        signals, log_gains = random_gain(batch.signals, spread, params.gain_probability)
        seen_mask = hide_block(mask, positions, params)
        chosen = {
            family: choose(len(signals), part.n_tokens, part.n_hidden, signals.device)
            for family, part in self.parts.items()
        }
        visible = {family: seen for family, (seen, _) in chosen.items()}
        noisy = white_noise(signals, params.noise, params.noise_probability)
        inputs = encoder.inputs(noisy, positions, seen_mask, visible.get("band"))
        if self.patches is not None and encoder.time is not None:
            inputs["time"] = encoder.time.without(inputs["time"], chosen["time"][1])
        tokens = encoder.embed(inputs)
        for family, part in self.parts.items():
            if part.n_hidden:
                tokens[family] = gather(tokens[family], visible[family])
        mixed = encoder.mix(torch.cat(list(tokens.values()), 1))
        losses: list[Tensor] = []
        scores: dict[str, Tensor] = {}
        if self.bands is not None:
            target = self.band_targets(encoder, batch, positions, log_gains)
            loss, own = self.bands.score(mixed, inputs["band"], target, *chosen["band"])
            losses.append(loss)
            scores |= own
        if self.patches is not None:
            targets = self.patches.targets(signals, positions, mask)
            loss, own = self.patches.score(mixed, targets, *chosen["time"])
            losses.append(params.patch_weight * loss if losses else loss)
            scores |= own
        return StepOutput(torch.stack(losses).sum(), len(signals), scores)
