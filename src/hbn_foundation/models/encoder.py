"""The encoder: tokens from a window of any montage, mixed by one trunk.

It depends on no data set: channels come with their positions and a mask of the usable ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import symmetric
from .band_tokens import BandTokens, Moments
from .config import EncoderConfig
from .slow import SlowOutputs
from .spatial import SpatialComponents
from .time_tokens import ConvTokens, PatchTokens, TimeTokens
from .trunk import Block

Parts = dict[str, Tensor]


class Encoder(nn.Module):
    """Windows of EEG to tokens; `config` says which architecture, for which windows.

    `unit` is that of the signals that it takes: of the signal `store`, robust z-scores.
    """

    unit: Literal["store", "microvolts"] = "store"
    is_external = False
    arithmetic = "float32"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.sfreq, self.n_samples = sfreq, n_samples = config.sfreq, config.n_samples
        dim = config.hidden_dim
        self.tokenisers = nn.ModuleDict()
        if "band" in config.tokens:
            self.tokenisers["band"] = BandTokens(config.band, sfreq, n_samples, dim)
        if "time" in config.tokens:
            kind = PatchTokens if config.time.kind == "patch" else ConvTokens
            self.tokenisers["time"] = kind(config.time, sfreq, n_samples, dim)
        self.trunk = nn.ModuleList(
            Block(dim, config.n_heads, config.feedforward_ratio, config.dropout, config.layer_scale)
            for _ in range(config.n_layers)
        )
        self.final_norm = nn.LayerNorm(dim)
        self.slow: SlowOutputs | None = None
        if config.n_slow and self.band is not None:
            n_features = len(self.band) * dim
            self.slow = SlowOutputs(self.band.centre.numel(), n_features, config.n_slow)

    @property
    def band(self) -> BandTokens | None:
        """The band tokeniser, where the encoder has one."""
        module = dict(self.tokenisers.items()).get("band")
        return module if isinstance(module, BandTokens) else None

    @property
    def time(self) -> TimeTokens | None:
        """The time tokeniser, where the encoder has one."""
        module = dict(self.tokenisers.items()).get("time")
        return module if isinstance(module, TimeTokens) else None

    @property
    def n_tokens(self) -> int:
        """How many tokens one window gives."""
        return sum(len(tokeniser) for tokeniser in (self.band, self.time) if tokeniser is not None)

    @property
    def n_features(self) -> int:
        """Length of the concatenated final tokens."""
        return self.n_tokens * self.config.hidden_dim

    def inputs(
        self, signals: Tensor, positions: Tensor, mask: Tensor, bands: Tensor | None = None
    ) -> Parts:
        """Compute what each family of tokens is made of: band tangents, time features.

        Signals (B, C, T) are robust z-scores; those of channels that the mask (B, C) calls unusable
        are not used but must be finite. Positions are (C, 3) unit vectors in head coordinates. If
        only some bands are wanted, `bands` (B, V), the others get zeros.
        """
        parts: Parts = {}
        if self.band is not None:
            parts["band"] = self.band.tangents(signals, positions, mask, bands)
        if self.time is not None:
            parts["time"] = self.time.features(signals, positions, mask)
        return parts

    def embed(self, parts: Parts) -> Parts:
        """Tokens (B, n, D) of each family, before the trunk."""
        return {name: self.tokenisers[name](part) for name, part in parts.items()}

    def set_arithmetic(self, name: str) -> None:
        """Make the trunk's weights `float32`, `bfloat16` or `float16`, in which it then computes.

        For inference; in training, autocast chooses the arithmetic.
        """
        self.arithmetic = name
        self.trunk.to(getattr(torch, name))

    def residual(self, tokens: Tensor) -> Tensor:
        """Run tokens (B, N, D) through the blocks, without the final norm."""
        if self.arithmetic != "float32":
            tokens = tokens.to(getattr(torch, self.arithmetic))
        for block in self.trunk:
            tokens = block(tokens)
        return tokens if self.arithmetic == "float32" else tokens.float()

    def mix(self, tokens: Tensor) -> Tensor:
        """Run tokens (B, N, D) through the trunk, the final norm included."""
        return self.final_norm(self.residual(tokens))

    def body(self, parts: Parts) -> Tensor:
        """Compute tokens (B, N, D) of the last block from `inputs`: all that is learned.

        What runs an encoder in another way, compiled or as an ONNX graph, replaces this method.
        """
        return self.residual(torch.cat(list(self.embed(parts).values()), 1))

    def forward(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, N, D) of windows (B, C, T); band tokens first, then time tokens."""
        return self.final_norm(self.body(self.inputs(signals, positions, mask)))

    def summary(self, parts: Parts) -> Tensor:
        """Return what a probe reads (B, F): slow outputs where there are any, else `features`."""
        if self.slow is not None:
            return self.slow.alone(parts["band"])
        return self.body(parts).flatten(1)

    def slow_outputs(self, tangents: Tensor) -> Tensor:
        """Compute the outputs (B, n_slow) of band tangents relative to their recording.

        An encoder without any is a ValueError.
        """
        if self.slow is None:
            raise ValueError("the encoder has no slow outputs (n_slow is 0)")
        return self.slow(tangents, self.body({"band": tangents}))

    def slow_token(self, tangents: Tensor) -> Tensor:
        """Return the slow outputs as one token (B, 1, D), repeated over its width."""
        outputs, width = self.slow_outputs(tangents), self.config.hidden_dim
        return outputs.repeat(1, -(-width // outputs.shape[1]))[:, None, :width]

    def features(self, signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Concatenated tokens (B, N·D) of the last block, for a linear probe.

        Before the final norm, which takes away their amplitude, and with it some accuracy;
        averaging the tokens instead loses more.
        """
        return self.body(self.inputs(signals, positions, mask)).flatten(1)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from input to output; together they hold every parameter once."""
        named = [(f"{name}_tokens", module) for name, module in self.tokenisers.items()]
        named += [(f"block_{number}", block) for number, block in enumerate(self.trunk, start=1)]
        if self.slow is not None:
            named.append(("slow_outputs", self.slow))
        return [*named, ("final_norm", self.final_norm)]

    @torch.no_grad()
    def fit_normalisation(
        self,
        batches: Iterable[Any],
        positions: Tensor,
        families: Collection[str] = ("band", "time"),
    ) -> dict[str, Tensor]:
        """Fit the buffers that normalise tokens of some families; others keep what they have.

        The batches are of training subjects only and can be iterated several times; each has
        `signals` (B, C, T) and `mask` (B, C).

        Returns
        -------
        dict
            `band_covariance` (bands, 190, 190) of the normalised band tangents, where there are
            band tokens: objectives take their principal coordinates from it.
        """
        spectra, features = Moments(), Moments()
        band = self.band if "band" in families else None
        time = self.time if "time" in families else None
        if time is not None and time.components.n_whitened:
            _fit_whitening(time.components, batches, positions)
        for signals, mask in usable_windows(batches):
            if band is not None:
                spectra.add(symmetric.log(band.cross_spectra(signals, positions, mask)))
            if time is not None:
                raw = time.raw_features(signals, positions, mask)
                features.add(torch.stack([raw.mean(1), raw.square().mean(1)], 1))
        if time is not None:
            mean, square = features.mean.float()
            time.centre.copy_(mean)
            time.scale.copy_((square - mean.square()).clamp_min(1e-8).sqrt())
        if band is None:
            return {}
        return {"band_covariance": _fit_tangents(band, spectra, batches, positions)}


def usable_windows(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Signals and masks of the windows that have a usable channel; other windows are left out."""
    for batch in batches:
        usable = batch.mask.any(-1)
        if usable.any():
            yield batch.signals[usable], batch.mask[usable]


def _fit_whitening(
    components: SpatialComponents, batches: Iterable[Any], positions: Tensor
) -> None:
    """Set the directions that the time tokens' components mix."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for signals, mask in usable_windows(batches):
        total = total + components.covariance(signals, positions, mask).double()
        count += len(signals)
    components.fit_whitening(total / count)


def _fit_tangents(
    band: BandTokens, spectra: Moments, batches: Iterable[Any], positions: Tensor
) -> Tensor:
    """Set whitener, centre and scale; return the covariance of the normalised tangents."""
    band.whitener.copy_(symmetric.exp(spectra.mean, -0.5))
    band.centre.zero_()
    band.scale.fill_(1.0)
    tangents = Moments()
    for signals, mask in usable_windows(batches):
        tangents.add(band.tangents(signals, positions, mask), outer=True)
    covariance = tangents.covariance
    scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-12).sqrt()
    band.centre.copy_(tangents.mean)
    band.scale.copy_(scale)
    return (covariance / scale[:, None, None].square()).float()
