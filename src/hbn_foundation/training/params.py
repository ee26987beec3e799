"""Parameters of pretraining: the objective, the training run, the device."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.params import Params

ObjectiveName = Literal[
    "recording_spectra",
    "band_completion",
    "masked_patches",
    "masked",
    "slow_features",
    "slow_prediction",
    "task_classification",
    "none",
]
#: The one that trains nothing.
UNTRAINED = "none"
#: The one whose targets are labels, so that shuffling them is a control.
SUPERVISED = "task_classification"
#: Those that any encoder can be trained by.
OF_ANY_ENCODER = (UNTRAINED, SUPERVISED)

#: The objectives that predict something of a window.
PREDICTING = {"recording_spectra", "band_completion", "masked_patches", "masked"}
#: Those that train slow outputs, which one of the former can stand beside.
SLOW = {"slow_features", "slow_prediction"}

Weight = Annotated[float, Field(gt=0)]
HideProbability = Annotated[
    float, Field(description="Share of the windows in which channels are hidden.", ge=0, le=1)
]
MaxHidden = Annotated[float, Field(description="Largest share of channels hidden.", gt=0, lt=1)]
Gain = Annotated[float, Field(description="SD of the log of a random gain per window.", ge=0)]
Noise = Annotated[float, Field(description="SD of white noise added.", ge=0)]


#: What changes a window, each parameter with the value that changes none.
CHANGES = {"hide_probability": 0.0, "gain": 0.0, "noise": 0.0, "jitter_seconds": 0.0, "mixup": 0.0}


class AugmentationParams(Params):
    """How training windows are changed."""

    use_augmentation: bool = Field(
        True,
        description="false: no window is changed, whatever the other parameters say (hide, gain, "
        "noise, jitter, mixup).",
    )
    hide_probability: HideProbability = 0.6
    min_hidden: float = Field(0.1, description="Smallest share of channels hidden.", ge=0, lt=1)
    max_hidden: MaxHidden = 0.5
    gain: Gain = 0.0
    gain_probability: float = Field(
        1.0, description="Share of the windows that get the random gain.", ge=0, le=1
    )
    noise: Noise = 0.0
    noise_probability: float = Field(
        1.0, description="Share of the windows that get the noise.", ge=0, le=1
    )
    jitter_seconds: float = Field(
        0.0,
        description="Largest random shift of a training window's start; labels that are times in "
        "the window (head.moves) move with it.",
        ge=0,
    )
    jitter_probability: float = Field(
        1.0, description="Share of the windows whose start is shifted.", ge=0, le=1
    )

    @property
    def in_use(self) -> Self:
        """The same, with nothing that changes a window where `use_augmentation` is false."""
        if self.use_augmentation:
            return self
        known = type(self).model_fields
        return self.model_copy(update={name: v for name, v in CHANGES.items() if name in known})

    @model_validator(mode="after")
    def _shares_in_order(self) -> Self:
        if self.min_hidden > self.max_hidden:
            raise ValueError(f"min_hidden {self.min_hidden} exceeds max_hidden {self.max_hidden}")
        return self


class ObjectiveParams(AugmentationParams):
    """What the encoder is trained to do."""

    name: ObjectiveName = Field(
        "band_completion",
        description="recording_spectra: the mean spectra of the whole recording from one window "
        "of it; band_completion: the spectra of the whole scalp from a part of it; "
        "slow_prediction: the slow features of the windows around, from one window; slow_features: "
        "outputs that change little between windows near each other; "
        "masked_patches: patches of time from the others; masked: both; task_classification: which "
        "class a window has; none: nothing, the weights of the encoder are taken as they are.",
    )
    hide_probability: HideProbability = 0.8
    max_hidden: MaxHidden = 0.6
    gain: Gain = 0.15
    noise: Noise = 0.05
    mask_bands: float | None = Field(
        None,
        description="Share of the band tokens left out and to be predicted; by default half for "
        "band_completion and three quarters for masked, which also leaves out patches.",
        ge=0,
        lt=1,
    )
    mask_patches: float = Field(
        0.8, description="Share of the time tokens left out and to be predicted.", gt=0, lt=1
    )
    patch_weight: float = Field(
        0.5, description="Weight of the patches' loss beside the bands', for masked.", gt=0
    )
    n_coordinates: int = Field(
        24, description="Principal coordinates per band that are to be predicted.", ge=1, le=190
    )
    lag_seconds: float = Field(
        10.0, description="Windows that begin at most this far apart are to be alike.", gt=0
    )
    windows_per_recording: int = Field(
        48,
        description="Windows of a recording in a batch of slow_*, in pairs that follow each "
        "other, spread over the recording.",
        ge=4,
    )
    across: Literal["recording", "subject"] = Field(
        "recording",
        description="What slow outputs vary in: within each recording, or over all recordings of "
        "a subject together, so that tasks separate.",
    )
    detrend: bool = Field(
        False,
        description="Take the linear trend of each recording out of slow outputs in the loss, so "
        "that a slow drift is no slow output; a state that comes once does not count either.",
    )
    beside: dict[ObjectiveName, Weight] = Field(
        {},
        description="A second objective on the same windows, with the weight of its loss: "
        "one of slow outputs beside one that predicts spectra or patches, or the other way round.",
    )
    label: LabelParams = Field(LabelParams(), description="The classes of task_classification.")
    shuffle_labels: bool = Field(
        False,
        description="Control for task_classification: permute them once; validation must "
        "then stay at chance.",
    )

    @property
    def share_of_bands(self) -> float:
        """Share of the band tokens left out, the default resolved."""
        if self.mask_bands is None:
            return 0.75 if self.name == "masked" else 0.5
        return self.mask_bands

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = {self.name, *self.beside}
        pairs = [{one, other} for one in SLOW for other in PREDICTING]
        if self.beside and both not in pairs:
            raise ValueError(
                f"beside: {', '.join(self.beside)} does not go with {self.name}; expected one of "
                f"{', '.join(sorted(SLOW))} and one of {', '.join(sorted(PREDICTING))}"
            )
        if self.detrend and "slow_features" not in both:
            raise ValueError(f"detrend goes with slow_features, found {self.name}")
        if self.shuffle_labels and self.name != SUPERVISED:
            raise ValueError(f"shuffle_labels goes with {SUPERVISED}, found {self.name}")
        return self


#: Parameters of the trainer that the weights do not depend on, but for their last bits.
NOT_IN_THE_WEIGHTS = frozenset(
    {
        "checkpoint_every",
        "checkpoint_keep",
        "deterministic",
        "keep_unfinished",
        "max_non_finite",
        "max_training_time",
        "resume",
        "tracking",
        "work_dir",
    }
)


class RunParams(Params):
    """How long and how precisely to train."""

    epochs: int = Field(15, description="Largest number of passes over the training windows.", ge=1)
    batch_size: int = Field(96, description="Windows per step.", ge=1)
    optimizer: str = Field(
        "adamw",
        description="A class of torch.optim: adamw, adam, radam, nadam, sgd, rmsprop, …. Groups, "
        "rates and freezing are the same with each. The weight decay of most others than adamw is "
        "an L2 penalty in the gradient.",
    )
    optimizer_options: dict[str, Any] = Field(
        {}, description="Its further arguments, as in torch: {momentum: 0.9} for sgd."
    )
    betas: tuple[float, float] = Field(
        (0.9, 0.98), description="Running averages of the optimizers that have them."
    )
    gradient_clip: float = Field(1.0, description="Largest norm of the gradient.", gt=0)
    accumulate_grad_batches: int = Field(
        1, description="Batches whose gradients are summed per step.", ge=1
    )
    early_stopping_patience: int = Field(
        5, description="Validations without a better one before training stops.", ge=1
    )
    checkpoint_every: int = Field(1, description="Epochs between checkpoints.", ge=1)
    checkpoint_keep: int | Literal["all"] = Field(
        3,
        description="How many of the last epochs' checkpoints stay beside the best until the "
        "result is stored; all keeps each of them, also after that.",
    )
    validate_every: int = Field(1, description="Epochs between validations.", ge=1)
    keep_unfinished: int = Field(
        3,
        description="Unfinished runs in work_dir, beside the current one, whose checkpoints stay "
        "for resume; those of older ones are removed, and a line names them.",
        ge=0,
    )
    max_training_time: float = Field(
        21_600.0, description="Seconds after which training stops; six hours.", gt=0
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device computes it natively, else 32."
    )
    deterministic: bool = Field(
        False,
        description="On a GPU, only algorithms that give the same bits each time, which are "
        "slower; operations without one are errors. The CPU is always deterministic.",
    )
    max_non_finite: int = Field(
        3, description="Batches in a row whose loss is not finite before training stops.", ge=1
    )
    seed: int = Field(0, description="Seed of the weights, the order, masks and dropout.", ge=0)
    resume: bool | Literal["auto"] = Field(
        "auto",
        description="auto resumes the last unfinished run of the same parameters and data; false "
        "starts a new run.",
    )
    tracking: Literal["none", "csv", "tensorboard", "mlflow"] = Field(
        "none",
        description="Where losses, scores, rates of each group and parameters are logged, beside "
        "the history: in the folder tracking beside work_dir. tensorboard and mlflow need the "
        "extra tracking.",
    )
    work_dir: str = Field(
        "data/06_models/training", description="Folder of the checkpoints made while training."
    )

    @field_validator("tracking")
    @classmethod
    def _logger_is_installed(cls, value: str) -> str:
        if value in ("tensorboard", "mlflow") and find_spec(value) is None:
            raise ValueError(f"{value} is not installed; pip install 'hbn-foundation[tracking]'")
        return value

    @field_validator("optimizer", "optimizer_options")
    @classmethod
    def _optimizer_exists(cls, value: Any, info: ValidationInfo) -> Any:
        """Ask torch, which is imported only where another optimizer than AdamW is named."""
        value = value.lower() if isinstance(value, str) else value
        if value not in ("adamw", {}):
            from hbn_foundation.training.optim import check_options, optimizer_class

            if info.field_name == "optimizer":
                optimizer_class(value)
            elif "optimizer" in info.data:
                check_options(info.data["optimizer"], value)
        return value

    @property
    def of_optimizer(self) -> tuple[tuple[float, float], str, dict[str, Any]]:
        """What the optimizer is made by, beside its groups."""
        return self.betas, self.optimizer, self.optimizer_options

    @property
    def epochs_kept(self) -> int:
        """The most checkpoints of epochs that are kept at once."""
        due = -(-self.epochs // self.checkpoint_every)
        return due if self.checkpoint_keep == "all" else min(self.checkpoint_keep, due)

    @field_validator("checkpoint_keep", mode="before")
    @classmethod
    def _all_or_a_number(cls, value: object) -> object:
        if value != "all" and not (isinstance(value, int) and value >= 1):
            raise ValueError("expected all, or a number of epochs from 1")
        return value

    @field_validator("resume", mode="before")
    @classmethod
    def _auto_or_false(cls, value: object) -> object:
        """Accept `--params "…resume=false"`, which arrives as a string."""
        if str(value).lower() not in ("auto", "false"):
            raise ValueError("expected auto or false")
        return "auto" if str(value).lower() == "auto" else False


class TrainerParams(RunParams):
    """How long, how fast and how precisely to pretrain."""

    learning_rate: float = Field(1e-3, description="Peak learning rate.", gt=0)
    weight_decay: float = Field(
        0.05, description="Decay of weight matrices; norms, biases and positions have none.", ge=0
    )
    warmup_steps: int = Field(50, description="Steps of linear warm-up.", ge=0)
    min_lr_ratio: float = Field(
        0.01, description="Last learning rate, as a share of the peak.", ge=0, le=1
    )
    normalisation_windows: int = Field(
        20_000, description="Most training windows on which the normalisation is fitted.", ge=100
    )
    work_dir: str = Field(
        "data/06_models/foundation_training",
        description="Folder of the checkpoints made while training.",
    )


class DeviceParams(Params):
    """Which device to train on."""

    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="auto: the best device that passes the probe."
    )
    timeout_seconds: float = Field(
        60.0, description="Time limit of the probe, the start of Python included.", gt=0
    )
    allow_fallback: bool = Field(
        False, description="Use the CPU when the device asked for does not work."
    )
