"""Parameters of a fine-tuning run beside its plan and its rates."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from hbn_foundation.params import Params
from hbn_foundation.scores import KNOWN_METRICS, TRAIN
from hbn_foundation.training.params import RunParams


class FineTuningParams(RunParams):
    """How long and how precisely to fine-tune, and what decides the best epoch."""

    epochs: int = Field(15, description="Most passes over the training windows.", ge=1)
    batch_size: int = Field(64, description="Windows per step.", ge=1)
    early_stopping_patience: int = Field(
        5, description="Validations without a better one, in a phase, before training stops.", ge=1
    )
    start: Literal["foundation", "from_scratch"] = Field(
        "foundation",
        description="Begin with the checkpoint's weights, or with random ones of its architecture "
        "and normalisation, all trainable at the head's rate.",
    )
    monitor: str = Field(
        "loss",
        description="The validation metric that the best epoch is chosen by: loss, f1, "
        "balanced_accuracy, auroc, accuracy; for regression loss, nrmse, r, mae, r2.",
    )
    probe_windows: int = Field(
        2000,
        description="Most training windows on which the head's scale, its start and the "
        "normalisation of new tokens are fitted, and most validation windows that choose it.",
        ge=10,
    )
    work_dir: str = Field(
        "data/06_models/finetuning_training",
        description="Folder of the checkpoints made while training.",
    )

    @field_validator("monitor")
    @classmethod
    def _monitor_is_known(cls, value: str) -> str:
        if value not in KNOWN_METRICS or value.startswith(TRAIN):
            names = sorted(name for name in KNOWN_METRICS if not name.startswith(TRAIN))
            raise ValueError(f"found {value}; expected one of {', '.join(names)}")
        return value


class RegularisationParams(Params):
    """What keeps a model with few labelled subjects from learning them by heart."""

    class_weights: bool = Field(
        True, description="Weigh classes by the inverse of their number of training windows."
    )
    label_smoothing: float = Field(
        0.05, description="Share of the target spread over all classes.", ge=0, lt=1
    )
    regression_loss: Literal["mse", "huber"] = Field(
        "huber", description="Loss of standardised values."
    )
    mixup: float = Field(
        0.0, description="α of the Beta distribution of mixup; 0 for none.", ge=0, le=10
    )
    l2_sp: float = Field(
        0.0,
        description="Strength of the pull of the encoder to where it began (L2-SP, Li et al. 2018)",
        ge=0,
    )
    ema_decay: float | None = Field(
        None,
        description="Decay of an average of the weights over steps, which is then what is scored "
        "and kept; at first it follows faster.",
        gt=0,
        lt=1,
    )
    hide_probability: float = Field(
        0.6, description="Share of the windows in which a block of channels is hidden.", ge=0, le=1
    )
    hide_least: float = Field(0.1, description="Smallest share of channels hidden.", ge=0, lt=1)
    hide_most: float = Field(0.5, description="Largest share of channels hidden.", gt=0, lt=1)
    gain: float = Field(
        0.0, description="Standard deviation of the log of a random gain per window.", ge=0
    )
    noise: float = Field(0.0, description="Standard deviation of white noise added.", ge=0)
    jitter_seconds: float = Field(
        0.0,
        description="Largest random shift of a training window's start; labels that are times in "
        "the window (head.moves) move with it.",
        ge=0,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hide_least > self.hide_most:
            raise ValueError(f"hide_least {self.hide_least} exceeds hide_most {self.hide_most}")
        return self
