"""Plain values from which a model is made, and by which an exported one is made again.

Limits and defaults are those of the parameter groups of the same names; nothing is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Name of the target that others are learned beside.
MAIN = "main"
#: Name of the block that puts windows into their recording.
SEQUENCE = "sequence_encoder"


@dataclass(frozen=True)
class BandTokenConfig:
    """Frequency bands in Hz, tapers, sharpness of virtual electrodes, shrinkage of spectra."""

    edges: tuple[tuple[float, float], ...]
    taper: str
    n_tapers: int
    sharpness: float
    shrinkage: float


@dataclass(frozen=True)
class TimeTokenConfig:
    """Patch length in seconds, spatial components, and convolutions where `kind` is "conv"."""

    kind: str
    patch_seconds: float
    n_components: int
    n_frequencies: int
    spatial_scale: float
    n_whitened: int
    width: int
    kernel: int
    depth: int
    steps: int
    conv_dropout: float


@dataclass(frozen=True)
class EncoderConfig:
    """Token families and trunk, for windows of `n_samples` samples at `sfreq` Hz.

    `n_slow` counts outputs that change slowly within a recording; 0: there are none.
    """

    tokens: tuple[str, ...]
    hidden_dim: int
    n_heads: int
    n_layers: int
    feedforward_ratio: int
    dropout: float
    layer_scale: float
    band: BandTokenConfig
    time: TimeTokenConfig
    sfreq: float
    n_samples: int
    n_slow: int = 0

    @classmethod
    def of(cls, values: dict[str, Any]) -> EncoderConfig:
        """Make it from nested dictionaries."""
        band, time = BandTokenConfig(**values["band"]), TimeTokenConfig(**values["time"])
        return cls(**{**values, "band": band, "time": time})


@dataclass(frozen=True)
class HeadConfig:
    """One head: pooling, layers, margin, bins of a distribution.

    `n_outputs` counts classes, values or bins; `attenuation` is 0 for none; `margin_size` is the
    full margin after its warm-up.
    """

    n_outputs: int
    pooling: str
    kind: str
    hidden_dim: int
    dropout: float
    final_norm: bool
    attenuation: float
    attenuated_directions: int
    earliest: float
    latest: float
    margin: str
    margin_size: float
    scale: float
    margin_warmup_steps: int


@dataclass(frozen=True)
class SequenceConfig:
    """How windows look at those around them: reach in s, mean, attention.

    `share` is that of the surroundings in a new block's output.
    """

    recentre: bool
    seconds: float
    running: bool
    n_heads: int
    n_layers: int
    dropout: float
    share: float


@dataclass(frozen=True)
class InputConfig:
    """Input in volts: channels, place of a reference that may be missing, and rejection rules."""

    n_channels: int
    reference: int | None
    window_gain: bool
    flat_uv: float
    wild: float
    clip: float
