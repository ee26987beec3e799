"""Parameters of the model: what it takes, which tokens, how wide and deep, the head on top."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hbn_foundation.params import Params
from hbn_foundation.training.adapters import AdapterParams, resolved
from hbn_foundation.training.weights import weights_digest

TokenFamily = Literal["band", "time"]
FAMILIES: tuple[TokenFamily, ...] = ("band", "time")
#: Of heads of classes; see `HeadParams.subject_attenuation`.
SUBJECT_ATTENUATION = 300.0


class BandTokenParams(Params):
    """How a window becomes one token per frequency band."""

    edges: tuple[tuple[float, float], ...] = Field(
        (
            (1.0, 4.0),
            (4.0, 7.0),
            (7.0, 9.5),
            (9.5, 12.0),
            (12.0, 16.0),
            (16.0, 22.0),
            (22.0, 30.0),
            (30.0, 45.0),
        ),
        description="Frequency bands in Hz, lower edge included, upper edge excluded.",
        min_length=1,
    )
    taper: Literal["hann", "sine"] = Field(
        "sine",
        description="Window before the Fourier transform: several sine tapers, which use all of a "
        "window, or one Hann, which throws away half of it.",
    )
    n_tapers: int = Field(3, description="How many sine tapers; Hann is one.", ge=1, le=16)
    sharpness: float = Field(
        40.0,
        description="κ of the softmax over cosines that forms a virtual electrode: the larger, "
        "the fewer channels around it count: at 40 four or so of 129 channels, one of 19.",
        gt=0,
    )
    shrinkage: float = Field(
        0.2, description="Share of the scaled identity in each cross-spectrum.", gt=0, lt=1
    )

    @model_validator(mode="after")
    def _edges_ascend(self) -> Self:
        for low, high in self.edges:
            if not 0 <= low < high:
                raise ValueError(f"band ({low}, {high}) Hz must have 0 ≤ low < high")
        return self


class TimeTokenParams(Params):
    """How a window becomes one token per stretch of time."""

    kind: Literal["patch", "conv"] = Field(
        "patch",
        description="patch: waveform and short-time spectrum of each stretch; conv: convolutions "
        "along time, which see what is around a stretch.",
    )
    patch_seconds: float = Field(0.2, description="Length of a patch.", gt=0, le=2)
    n_components: int = Field(8, description="Learned spatial components.", ge=1, le=64)
    n_frequencies: int = Field(
        32, description="Fourier features of the electrode position per component.", ge=1, le=256
    )
    spatial_scale: float = Field(
        2.0,
        description="Standard deviation of the spatial frequencies, in radians per unit of the "
        "unit sphere: the larger, the finer the components.",
        gt=0,
    )
    n_whitened: int = Field(
        0,
        description="Uncorrelated directions, of equal variance in the training windows, that the "
        "components mix; 0: they mix the Fourier features themselves.",
        ge=0,
        le=512,
    )
    width: int = Field(64, description="conv: channels of the convolutions.", ge=1, le=1024)
    kernel: int = Field(
        15, description="conv: samples that a convolution sees; an odd number.", ge=3, le=101
    )
    depth: int = Field(
        2, description="conv: shorter convolutions after the first two.", ge=0, le=16
    )
    steps: int = Field(
        4,
        description="conv: steps of a patch that its token is made from, where they divide it.",
        ge=1,
        le=100,
    )
    conv_dropout: float = Field(
        0.1, description="conv: dropout after each convolution.", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        if self.n_whitened > 2 * self.n_frequencies:
            raise ValueError(
                f"n_whitened {self.n_whitened} exceeds the {2 * self.n_frequencies} Fourier "
                "features that it is made from"
            )
        return self


class AddedTokenParams(Params):
    """Tokens that a head needs and a checkpoint's encoder may lack.

    What the encoder has stays as it is. What it lacks is new: its normalisation is fitted on
    training windows, and it is trained with the head from the first step, at the head's rate.
    """

    tokens: tuple[TokenFamily, ...] = Field(
        (), description="Families of tokens that there must be; none: those of the checkpoint."
    )
    band: BandTokenParams = Field(BandTokenParams(), description="Band tokens, where they are new.")
    time: TimeTokenParams = Field(TimeTokenParams(), description="Time tokens, where they are new.")


class SequenceParams(Params):
    """How a fine-tuned model looks at the windows around each; used where it has a context."""

    n_layers: int = Field(
        1, ge=0, le=16, description="Transformer blocks, where context.seconds is above 0."
    )
    n_heads: int = Field(8, ge=1, le=64, description="Attention heads, each over another span.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on each branch.")
    share: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Share of the surroundings in what training begins with; the rest is the "
        "window itself.",
    )
    max_windows: int = Field(
        256,
        ge=2,
        description="Most windows in a sequence; longer recordings, and subjects where context "
        "is of subjects, are taken in pieces.",
    )


class ExternalParams(Params):
    """A module of another package in place of the encoder."""

    kind: Literal["own", "external"] = Field(
        "own", description="own: this project's; external: the module that target names."
    )
    target: str | None = Field(
        None,
        description="external: its class, as package.module:Class, of an installed package. "
        "Loading it runs that package's code.",
    )
    kwargs: dict[str, Any] = Field(
        {},
        description="external: arguments of the class, beside chs_info, n_chans, n_times, sfreq "
        "and n_outputs, which are given where it takes them.",
    )
    weights: str | None = Field(
        None,
        description="external: file of its weights (safetensors, or tensors as torch saves them); "
        "null: random ones.",
    )
    adapter: AdapterParams | None = Field(
        None,
        description="external: how it is fed and read, as a name (cbramod, labram, biot, eegpt, "
        "signaljepa, reve, eegnex) or a group; null: robust z-scores of 19 channels.",
    )

    @field_validator("adapter", mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        return resolved(value)

    @property
    def is_external(self) -> bool:
        """Whether it is a module of another package."""
        return self.kind == "external"

    def by_content(self) -> dict[str, str]:
        """Name the content of the file of weights, in place of its path; {} without one."""
        return {} if self.weights is None else {"weights": weights_digest(self.weights)}

    @model_validator(mode="after")
    def _target_of_external(self) -> Self:
        if self.is_external != (self.target is not None):
            raise ValueError("target (package.module:Class) goes with kind: external, and only so")
        if not self.is_external and (self.kwargs or self.weights or self.adapter):
            raise ValueError("kwargs, weights and adapter go with kind: external, and only so")
        return self


class EncoderParams(ExternalParams):
    """The encoder: tokens from one window, mixed by one transformer trunk; or another module."""

    tokens: tuple[TokenFamily, ...] = Field(
        ("band",), description="Families of tokens: band, time or both.", min_length=1, max_length=2
    )
    hidden_dim: int = Field(256, description="Width of a token.", ge=8, le=4096)
    n_heads: int = Field(8, description="Attention heads.", ge=1, le=64)
    n_layers: int = Field(4, description="Transformer blocks.", ge=1, le=64)
    feedforward_ratio: int = Field(4, description="Width of the feed-forward part, × width.", ge=1)
    dropout: float = Field(0.1, description="Dropout on each residual branch.", ge=0, lt=1)
    layer_scale: float = Field(
        0.1, description="Initial factor of each residual branch (LayerScale).", gt=0, le=1
    )
    band: BandTokenParams = Field(BandTokenParams(), description="Band tokens.")
    time: TimeTokenParams = Field(TimeTokenParams(), description="Time tokens.")
    n_slow: int = Field(
        0,
        ge=0,
        le=64,
        description="Outputs that change slowly within a recording, which slow_prediction or "
        "slow_features trains and frozen probes read in place of the tokens; 0: none. They need "
        "band tokens.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.hidden_dim % self.n_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} must be divisible by n_heads {self.n_heads}"
            )
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError(f"tokens {list(self.tokens)} must not repeat a family")
        return self

    def with_tokens(self, added: AddedTokenParams) -> Self:
        """Return these parameters with the families of tokens that are lacking."""
        lacking = [name for name in added.tokens if name not in self.tokens]
        families = [name for name in FAMILIES if name in (*self.tokens, *lacking)]
        new: dict[str, object] = {name: getattr(added, name) for name in lacking}
        return self.model_copy(update={"tokens": tuple(families), **new}) if lacking else self


class InputParams(Params):
    """In which units windows reach the model, and which of their channels it uses."""

    unit: Literal["store", "volts"] = Field(
        "store",
        description="store: robust z-scores, scaled by the whole recording, without its bad "
        "channels; volts: each window alone, as where nothing of its recording is known.",
    )
    window_gain: bool = Field(
        False, description="volts: divide each window by its own median amplitude."
    )
    flat_uv: float = Field(
        0.5, description="volts: a channel that moves less than this many µV is not used.", ge=0
    )
    wild: float = Field(
        4.0,
        description="volts: a channel whose mean amplitude, in its own scale, is so many times the "
        "median of the window's channels is not used.",
        gt=1,
    )
    clip: float = Field(
        15.0, description="volts: extremes are clipped at so many robust deviations.", gt=0
    )


#: Margins of the published methods scaled down to few classes, where `margin_size` is not given.
DEFAULT_MARGINS = {"cosface": 0.2, "arcface": 0.3}


class HeadParams(Params):
    """The head: from the tokens of one window to the logits of its classes, or to its values."""

    pooling: Literal["concat", "mean", "mean_std", "attention", "slow"] = Field(
        "concat",
        description="How the tokens of a window become one vector: side by side (best where each "
        "token is its own band), their mean, mean and standard deviation, or a learned average; "
        "slow: the encoder's slow outputs (encoder.n_slow) in place of its tokens.",
    )
    kind: Literal["linear", "mlp", "distribution"] = Field(
        "linear",
        description="linear: one map; mlp: one hidden layer before it; distribution: for a time "
        "within the window, each time token gives the shares of its own stretch, and the answer "
        "is their mean (soft-argmax).",
    )
    hidden_dim: int = Field(256, description="Width of the hidden layer; mlp only.", ge=1, le=65536)
    dropout: float = Field(0.3, description="Dropout before each linear map.", ge=0, lt=1)
    final_norm: bool = Field(
        False,
        description="Pass the tokens through the encoder's final norm; it takes away their "
        "amplitude, and with it some accuracy. Without it the norm is no block of the model.",
    )
    subject_attenuation: float | None = Field(
        None,
        description="How strongly directions of the features are scaled down in which subjects of "
        "the same class differ: one that holds the share s of the variance is multiplied by "
        "(1 + this · s)^-½. Classes only; null: 300 for classes, 0 for numbers.",
        ge=0,
    )
    attenuated_directions: int = Field(
        64, description="At most so many directions are scaled down.", ge=1, le=4096
    )
    start: Literal["probe", "zeros"] = Field(
        "probe",
        description="How a linear head without margin begins: at a linear probe of the features, "
        "or at zero. Other heads have no choice.",
    )
    strength_by: Literal["validation", "folds"] = Field(
        "validation",
        description="Who chooses the strength of that probe: the validation windows, or, of a "
        "number that each subject has one of, five folds of the training subjects. Classes, and "
        "numbers that vary within subjects, stay with the validation windows.",
    )
    bins: int = Field(40, description="distribution: bins of time.", ge=2, le=1000)
    earliest: float = Field(
        0.5, description="distribution: the window's begin, in the unit of the label (s)."
    )
    latest: float = Field(2.5, description="distribution: the window's end.")
    sigma: float = Field(
        0.06,
        description="distribution: standard deviation of the Gaussian around the true time that "
        "is learned, in the unit of the label.",
        gt=0,
    )
    shares_weight: float = Field(
        0.5, description="distribution: weight of the shares' cross-entropy.", ge=0
    )
    error_weight: float = Field(
        1.0, description="distribution: weight of the answer's standardised squared error.", ge=0
    )
    moves: bool | None = Field(
        None,
        description="Whether the label is a time in the window, so that it comes earlier where a "
        "training window begins later (jitter_seconds); null: for distribution.",
    )
    margin: Literal["none", "cosface", "arcface"] = Field(
        "none",
        description="Classify by cosines with a margin that the true class has to win by in "
        "training; classification only.",
    )
    margin_size: float | None = Field(
        None,
        description="The margin: of the cosine (cosface, null = 0.2) or the angle in radians "
        "(arcface, null = 0.3).",
        gt=0,
        le=1.5,
    )
    scale: float = Field(
        16.0,
        description="What cosines are multiplied by to be logits, in training and evaluation "
        "alike; margin heads only.",
        gt=0,
        le=1024,
    )
    margin_warmup_steps: int = Field(
        100, description="Steps over which the margin grows from zero to its size.", ge=0
    )

    def attenuation(self, classification: bool) -> float:
        """Return how strongly differences between subjects are scaled down, defaults resolved."""
        if self.subject_attenuation is None:
            return SUBJECT_ATTENUATION if classification else 0.0
        return self.subject_attenuation

    @property
    def starts_at_probe(self) -> bool:
        """Whether the head begins at a linear probe."""
        return self.start == "probe" and self.kind == "linear" and self.margin == "none"

    @property
    def is_time(self) -> bool:
        """Whether the label moves with the window, the default resolved."""
        return self.kind == "distribution" if self.moves is None else self.moves

    @model_validator(mode="after")
    def _bins_in_order(self) -> Self:
        if self.earliest >= self.latest:
            raise ValueError(f"earliest {self.earliest} must be below latest {self.latest}")
        return self

    @property
    def full_margin(self) -> float:
        """The margin after its warm-up; zero without a margin head."""
        if self.margin == "none":
            return 0.0
        return DEFAULT_MARGINS[self.margin] if self.margin_size is None else self.margin_size
