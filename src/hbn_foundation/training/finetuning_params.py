"""Parameters of a fine-tuning: plan, learning rates, trainer, regularisation, further targets."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.models.config import MAIN
from hbn_foundation.params import Params
from hbn_foundation.scores import KNOWN_METRICS, TRAIN, WITHIN
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.params import AugmentationParams, RunParams

STRATEGIES = (
    "head_only",
    "full",
    "scratch",
    "two_phase",
    "gated",
    "gradual",
    "partial",
    "plateau",
    "gradient_guided",
    "phases",
)
#: Strategies that never unfreeze a block after the first step.
WITHOUT_UNFREEZING = ("head_only", "full", "scratch")


def _known_strategy(value: str) -> str:
    if value not in STRATEGIES and not re.fullmatch(r"[\w.]+:\w+", value):
        known = ", ".join(STRATEGIES)
        raise ValueError(f"expected one of {known}, or package.module:Class for one of your own")
    return value


Strategy = Annotated[str, AfterValidator(_known_strategy)]
Schedule = Literal["cosine", "onecycle", "reduce_on_plateau", "constant", "linear_warmup_cosine"]


class PhaseParams(Params):
    """One phase of an explicit list."""

    epochs: int = Field(description="How many epochs the phase lasts.", ge=1)
    unfreeze: tuple[str, ...] = Field(
        (), description="Blocks that are trained from the start of this phase on; all for all."
    )
    schedule: Schedule | None = Field(
        None,
        description="A schedule that begins with this phase, and lasts to the next one; null: the "
        "one before goes on.",
    )


class PlanParams(Params):
    """Which blocks are trained when; the head always is.

    Each strategy reads only the parameters that name it, so that strategies can be compared on one
    set of parameters.
    """

    strategy: Strategy = Field(
        "two_phase",
        description="head_only; full: all from the start; scratch: full, from random weights; "
        "two_phase: the head, then all; gated: two phases, the second only when a metric is good "
        "enough; gradual: one more block from the back every few epochs; partial: a share of the "
        "encoder from the back; plateau: one more block whenever a metric stalls; "
        "gradient_guided: the frozen block with the largest relative gradient; phases: a list; "
        "package.module:Class: a strategy of your own.",
    )
    phase1_epochs: int = Field(
        3,
        description="Epochs with the head alone, before the first unfreezing; all strategies that "
        "unfreeze, but plateau and phases.",
        ge=1,
    )
    phase2_epochs: int | None = Field(
        None,
        description="Epochs after the first unfreezing, for a check: with those before it they "
        "have to make trainer.epochs; null is what is left. Strategies with a first phase of a "
        "set length.",
        ge=1,
    )
    unfreeze_backbone_epoch: int | None = Field(
        None,
        description="two_phase and gated: the first epoch, counted from 1, that trains the "
        "encoder too, in place of phase1_epochs; null: the one after phase1_epochs.",
        ge=2,
    )
    gate_metric: str = Field(
        "balanced_accuracy", description="gated: the validation metric that is judged."
    )
    gate_threshold: float = Field(
        0.6, description="gated: what the metric has to reach; reaching it exactly is enough."
    )
    gate_value: Literal["best", "last", "smoothed"] = Field(
        "best",
        description="gated: the metric's best value so far, its last one, or the mean of the last "
        "gate_window ones.",
    )
    gate_window: int = Field(
        3, description="gated: how many values smoothed is the mean of.", ge=1, le=100
    )
    gate_on_fail: Literal["extend", "stop", "proceed"] = Field(
        "extend",
        description="gated: below the threshold, train the head longer, stop, or continue as if "
        "the gate were passed.",
    )
    gate_extend_epochs: int = Field(
        3,
        description="gated: most epochs that extend adds; the gate is judged after each, and "
        "training stops where it never passes.",
        ge=1,
    )
    every: int = Field(
        2, description="gradual and gradient_guided: epochs from one block to the next.", ge=1
    )
    target_share: float = Field(
        1.0,
        description="gradual, plateau and gradient_guided: unfreeze until this share of the "
        "encoder's blocks is trained.",
        gt=0,
        le=1,
    )
    unfreeze_ratio: float | tuple[float, ...] | None = Field(
        None,
        description="partial and gated: largest share of the encoder's parameters, from the back, "
        "that is unfrozen, in whole blocks and at least one; or growing shares, one per stage. "
        "null is 0.5 for partial, 1 for gated.",
    )
    stage_epochs: int = Field(
        2, description="partial and gated: epochs from one of the growing shares to the next.", ge=1
    )
    plateau_metric: str = Field("loss", description="plateau: the validation metric followed.")
    plateau_patience: int = Field(
        2,
        description="plateau: epochs without a better value that are tolerated; the one after "
        "unfreezes the next block.",
        ge=0,
    )
    probe_batches: int = Field(
        4, description="gradient_guided: training batches that gradients are taken on.", ge=1
    )
    gradient_share: float = Field(
        0.5,
        description="gradient_guided: the best frozen block is unfrozen where its relative "
        "gradient is at least this share of the largest of all encoder blocks.",
        ge=0,
        le=1,
    )
    phases: tuple[PhaseParams, ...] = Field(
        (), description="phases: the phases in order; the last one lasts to the end."
    )
    restore_best: bool = Field(
        True, description="Begin each phase with the best weights of the one before."
    )
    grace_epochs: int = Field(
        2, description="Epochs after an unfreezing that early stopping does not count.", ge=0
    )

    @property
    def first_phase(self) -> tuple[int | None, str, int]:
        """Epochs with the head alone, where planned, the parameter's name, how much it adds."""
        if self.strategy in (*WITHOUT_UNFREEZING, "plateau") or ":" in self.strategy:
            return None, "", 0
        if self.strategy == "phases":
            first = self.phases[0]
            return (None if first.unfreeze else first.epochs), "phases.0.epochs", 0
        if self.strategy in ("two_phase", "gated") and self.unfreeze_backbone_epoch is not None:
            return self.unfreeze_backbone_epoch - 1, "unfreeze_backbone_epoch", 1
        return self.phase1_epochs, "phase1_epochs", 0

    @property
    def switch_epoch(self) -> int:
        """Epochs with the head alone in two_phase and gated."""
        return self.first_phase[0] or 0

    @property
    def schedules(self) -> dict[int, Schedule]:
        """Schedules of listed phases, by the epochs done before them."""
        found, done = {}, 0
        for phase in self.phases if self.strategy == "phases" else ():
            if phase.schedule is not None:
                found[done] = phase.schedule
            done += phase.epochs
        return found

    @property
    def ratios(self) -> tuple[float, ...]:
        """The growing shares of partial and gated, the default resolved."""
        if self.unfreeze_ratio is None:
            return (0.5,) if self.strategy == "partial" else (1.0,)
        if isinstance(self.unfreeze_ratio, tuple):
            return self.unfreeze_ratio
        return (self.unfreeze_ratio,)

    @property
    def from_scratch(self) -> bool:
        """Whether the run begins with random weights."""
        return self.strategy == "scratch"

    @field_validator("unfreeze_ratio")
    @classmethod
    def _ratios_grow(cls, value: float | tuple[float, ...] | None) -> object:
        if value is None:
            return value
        ratios = value if isinstance(value, tuple) else (value,)
        if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
            raise ValueError("expected shares above 0 and at most 1")
        if any(later <= earlier for earlier, later in pairwise(ratios)):
            raise ValueError("expected shares that grow")
        return value

    @model_validator(mode="after")
    def _phases_given(self) -> Self:
        if self.strategy == "phases" and not self.phases:
            raise ValueError("strategy phases needs phases, a list of {epochs, unfreeze}")
        return self


class RateParams(Params):
    """Learning rate of each block at each step, and weight decay."""

    head_lr: float = Field(1e-3, description="Peak rate of the head.", gt=0, le=10)
    backbone_lr: float | None = Field(
        None,
        description="Peak rate of the encoder's last block; null is head_lr times "
        "backbone_lr_factor.",
        gt=0,
        le=10,
    )
    backbone_lr_factor: float = Field(
        0.1, description="The encoder's rate as a share of the head's.", gt=0, le=1
    )
    layer_decay: float = Field(
        1.0,
        description="Each block of the encoder has this share of the rate of the one behind it.",
        gt=0,
        le=1,
    )
    ramp_epochs: float = Field(
        0.5, description="Epochs over which the rate of an unfrozen block rises from zero.", ge=0
    )
    weight_decay: float = Field(
        0.05, description="Decay of weight matrices; norms, biases and positions have none.", ge=0
    )
    schedule: Schedule = Field(
        "cosine",
        description="How rates change over the run; reduce_on_plateau follows trainer.monitor.",
    )
    warmup_share: float = Field(
        0.1, description="linear_warmup_cosine: share of the run in which rates rise.", ge=0, lt=1
    )
    min_lr_ratio: float = Field(
        0.01,
        description="Lowest rate, as a share of each block's own peak; onecycle has its own.",
        ge=0,
        le=1,
    )
    preserve_below: float = Field(
        0.1,
        description="Where rates have fallen below this share of their peaks, an unfreezing puts "
        "them back to the peaks; not with onecycle. 0 never does.",
        ge=0,
        le=1,
    )
    plateau_factor: float = Field(
        0.5, description="reduce_on_plateau: what rates are multiplied by.", gt=0, lt=1
    )
    plateau_patience: int = Field(
        2,
        description="reduce_on_plateau: validations without a better value that are tolerated.",
        ge=0,
    )
    pct_start: float = Field(
        0.3, description="onecycle: share of the run in which rates rise.", gt=0, lt=1
    )
    div_factor: float = Field(25.0, description="onecycle: peak over first rate.", ge=1)
    final_div: float = Field(1e4, description="onecycle: first over last rate.", ge=1)

    @property
    def backbone_peak(self) -> float:
        """Peak rate of the encoder's last block."""
        if self.backbone_lr is None:
            return self.head_lr * self.backbone_lr_factor
        return self.backbone_lr


def for_scratch(params: RateParams) -> RateParams:
    """Return rates with the head's rate for all blocks, as random weights need it."""
    return params.model_copy(update={"backbone_lr": params.head_lr, "layer_decay": 1.0})


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
        "balanced_accuracy, auroc, accuracy, and within_auroc where evaluation.stratify_scores_by "
        "is given; for regression loss, nrmse, r, mae, r2.",
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
        known = (*KNOWN_METRICS, WITHIN)
        if value not in known or value.startswith(TRAIN):
            names = sorted(name for name in known if not name.startswith(TRAIN))
            raise ValueError(f"found {value}; expected one of {', '.join(names)}")
        return value


class RegularisationParams(AugmentationParams):
    """What keeps a model with few labelled subjects from overfitting."""

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
    mixup_probability: float = Field(1.0, description="Share of batches mixed.", ge=0, le=1)
    ema_decay: float | None = Field(
        None,
        description="Decay of an average of the weights over steps, which is then what is scored "
        "and kept; at first it follows faster.",
        gt=0,
        lt=1,
    )


class TargetParams(Params):
    """One more target: its label, its head, its weight in the loss."""

    label: LabelParams = Field(description="What is learned.")
    head: HeadParams = Field(HeadParams(), description="The head that answers it.")
    weight: float = Field(
        1.0, description="Weight of its loss beside the main target's, which has 1; 0: none.", ge=0
    )


class MoreTargets(Params):
    """Further targets by name, learned by heads of their own on the same tokens.

    The main target alone decides which epoch is best, where that is not the loss.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, TargetParams] = Field(init=False)

    @property
    def chosen(self) -> dict[str, TargetParams]:
        """Those with a weight."""
        given = self.__pydantic_extra__ or {}
        return {name: target for name, target in given.items() if target.weight > 0}

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.__pydantic_extra__ or {}:
            if name == MAIN or not name.isidentifier():
                raise ValueError(f"{name!r} is no name for a further target")
        return self
