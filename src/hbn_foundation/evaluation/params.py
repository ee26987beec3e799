"""Parameters of the evaluations: label, probe, baselines, repeats, learning curves."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.params import Params
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.linear_probe import STRENGTHS

OfWindows = Literal[
    "encoder_input", "slow_features", "filter_bank", "riemann", "band_power", "majority"
]
Baseline = Literal["random_weights", OfWindows]
FineTuningBaseline = Literal["frozen_probe", OfWindows]
FINE_TUNING_BASELINES: tuple[FineTuningBaseline, ...] = get_args(FineTuningBaseline)


def each_once(value: tuple[object, ...]) -> tuple[object, ...]:
    """Make sure that nothing is named twice."""
    if len(set(value)) < len(value):
        raise ValueError(f"expected each one once, found {list(value)}")
    return value


class RepeatParams(Params):
    """Repeated subject splits; in each fold the encoder is pretrained anew.

    Equal ones of the foundation and of both challenges share their encoders.
    """

    folds: int = Field(5, ge=2, description="Parts the subjects are dealt into; each tests once.")
    repeats: int = Field(2, ge=1, description="How often they are shuffled and dealt.")
    seed: int = Field(0, ge=0, description="Another seed gives other folds.")
    n_jobs: int = Field(2, ge=1, description="Folds at once, each a process with one thread.")


class BaselineParams(Params):
    """What classical methods measure and how they are fitted and scored."""

    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        STRENGTHS,
        min_length=1,
        description="Inverse regularisation strengths, from strong to weak, from which the "
        "validation subjects choose; folds of the training subjects where each subject has one "
        "number.",
    )
    bands: tuple[tuple[float, float], ...] = Field(
        ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 20.0), (20.0, 30.0), (30.0, 45.0)),
        min_length=1,
        description="Bands of band power and of the filter bank in Hz, upper edge excluded.",
    )
    shrinkage: float = Field(
        0.1, ge=0, lt=1, description="Share of the scaled identity in the baselines' covariances."
    )
    max_windows: int = Field(
        4000, ge=10, description="Most windows per split; more are subsampled evenly."
    )
    batch_size: int = Field(256, ge=1, description="Windows read at once.")
    bootstraps: int = Field(
        500,
        ge=0,
        description="Resamplings of the test subjects for the intervals (BCa, from ten test "
        "subjects on); 0 for none.",
    )
    seed: int = Field(0, ge=0, description="Of subsampling, random weights, resampling, map.")


class LabelEvaluationParams(BaselineParams):
    """How the scores of a label of any kind are made."""

    stratify_scores_by: str | None = Field(
        None,
        description="A column of participants.tsv; the main score is then the AUROC within each "
        "test subject, averaged over the subjects of each of its values, then over the values, of "
        "which unknown is one. Fits weigh its values in each class alike, and what validation "
        "subjects choose they choose by the same score. For labels whose classes change within a "
        "subject.",
    )

    def check_strata(self, label: LabelParams) -> None:
        """Make sure that scores of a label can be stratified; a ValueError where they cannot."""
        if self.stratify_scores_by is None:
            return
        key = f"stratify_scores_by={self.stratify_scores_by}"
        if label.type == "regression":
            raise ValueError(f"{key}: of classes alone, found label.type: regression")
        if label.kind == "participant":
            raise ValueError(
                f"{key}: of classes that change within a subject, found label.kind: participant"
            )


class EvaluationParams(LabelEvaluationParams):
    """What the frozen encoder is probed for, and what it is compared with."""

    label: LabelParams = Field(LabelParams(), description="What the probe tells apart.")
    context: ContextParams = Field(
        ContextParams(), description="What all methods know of a window's surroundings."
    )
    shuffle_labels: bool = Field(
        False,
        description="Control: labels permuted across recordings (across subjects for a "
        "participants column); every score must fall to chance.",
    )
    baselines: tuple[Baseline, ...] = Field(
        get_args(Baseline), description="Methods scored beside the pretrained encoder."
    )
    map_method: Literal["tsne", "pca"] = Field(
        "tsne", description="How the embedding map comes by its two coordinates."
    )
    repeats: RepeatParams | None = Field(
        None, description="Repeated subject splits; by default none."
    )

    @model_validator(mode="after")
    def _strata_fit(self) -> Self:
        self.check_strata(self.label)
        return self


class FineTuningEvaluationParams(LabelEvaluationParams):
    """What a fine-tuned model is compared with, on the same subjects and windows."""

    baselines: tuple[FineTuningBaseline, ...] = Field(
        FINE_TUNING_BASELINES,
        description="Methods scored beside the fine-tuned model; frozen_probe and encoder_input "
        "need a checkpoint and are left out without one.",
    )


ResponseTimeBaseline = Literal[
    "constant", "median", "age_sex", "band_power", "filter_bank", "riemann", "time_bins",
    "boosted_trees", "random_weights",
]  # fmt: skip
FactorBaseline = Literal[
    "constant", "median", "age_sex", "band_power", "filter_bank", "riemann", "random_weights"
]


class ChallengeEvaluationParams(BaselineParams):
    """What both of the challenge's tasks are evaluated with."""

    max_windows: int = Field(
        20_000,
        ge=10,
        description="Most training and most validation windows of the baselines; more are "
        "subsampled evenly. All test windows are used.",
    )
    repeats: RepeatParams | None = Field(
        None,
        description="Repeated subject splits, whose predictions are scored together: each subject "
        "is tested once in each repeat, by a model that has not seen it. Null: the one split.",
    )


class ResponseTimeEvaluationParams(ChallengeEvaluationParams):
    """What response times and success are compared with, on the same subjects and windows."""

    baselines: tuple[ResponseTimeBaseline, ...] = Field(
        ("constant", "median", "age_sex", "band_power", "time_bins", "boosted_trees",
         "random_weights"),
        min_length=1,
        description="Methods scored beside the model; random_weights needs a checkpoint.",
    )  # fmt: skip


class FactorEvaluationParams(ChallengeEvaluationParams):
    """What factors are compared with, and how windows become one prediction per subject."""

    baselines: tuple[FactorBaseline, ...] = Field(
        ("constant", "median", "age_sex", "band_power", "filter_bank", "random_weights"),
        min_length=1,
        description="Methods scored beside the model; random_weights needs a checkpoint.",
    )
    aggregation: Literal["mean", "median"] = Field(
        "mean", description="How the predictions of a subject's windows become one."
    )


class FromScratchParams(Params):
    """The baseline that begins from random weights, in both challenges."""

    train: bool = Field(
        True,
        description="Whether the same model is trained from random weights, too, to stand beside "
        "the fine-tuned one; takes as long again.",
    )
