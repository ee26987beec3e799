"""Parameters of the evaluation: label, probe, baselines, repeats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.params import Params
from hbn_foundation.training.finetuning_params import Strategy
from hbn_foundation.training.linear_probe import STRENGTHS

Baseline = Literal[
    "random_weights", "encoder_input", "filter_bank", "riemann", "band_power", "majority"
]
BASELINES: tuple[Baseline, ...] = (
    "random_weights",
    "encoder_input",
    "filter_bank",
    "riemann",
    "band_power",
    "majority",
)

FineTuningBaseline = Literal[
    "frozen_probe", "encoder_input", "filter_bank", "riemann", "band_power", "majority"
]
FINE_TUNING_BASELINES: tuple[FineTuningBaseline, ...] = (
    "frozen_probe",
    "encoder_input",
    "filter_bank",
    "riemann",
    "band_power",
    "majority",
)


class RepeatParams(Params):
    """Repeated subject splits; in each fold the encoder is pretrained anew."""

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
        4000, ge=10, description="Most windows per split; more are thinned evenly."
    )
    batch_size: int = Field(256, ge=1, description="Windows read at once.")
    bootstraps: int = Field(
        500,
        ge=0,
        description="Resamplings of the test subjects for the intervals (BCa, from ten test "
        "subjects on); 0 for none.",
    )
    seed: int = Field(0, ge=0, description="Of thinning, random weights, resampling, map.")


class EvaluationParams(BaselineParams):
    """What the frozen encoder is asked for, and what it is compared with."""

    label: LabelParams = Field(LabelParams(), description="What the probe tells apart.")
    shuffle_labels: bool = Field(
        False,
        description="Control: labels permuted across recordings (across subjects for a "
        "participants column); every score must fall to chance.",
    )
    baselines: tuple[Baseline, ...] = Field(
        BASELINES, description="Methods scored beside the pretrained encoder."
    )
    map_windows: int = Field(1500, ge=10, description="Most windows on the embedding map.")
    map_method: Literal["tsne", "pca"] = Field(
        "tsne", description="How the embedding map comes by its two coordinates."
    )
    repeats: RepeatParams | None = Field(
        None, description="Repeated subject splits; by default none."
    )


class FineTuningEvaluationParams(BaselineParams):
    """What a fine-tuned model is compared with, on the same subjects and windows."""

    baselines: tuple[FineTuningBaseline, ...] = Field(
        FINE_TUNING_BASELINES,
        description="Methods scored beside the fine-tuned model; frozen_probe and encoder_input "
        "need a checkpoint and are left out without one.",
    )


ComparedScore = Literal[
    "window_auroc", "recording_auroc", "balanced_accuracy", "f1",
    "nrmse", "recording_nrmse", "mae", "recording_mae",
]  # fmt: skip
COMPARED_PLANS: tuple[Strategy, ...] = (
    "head_only",
    "full",
    "scratch",
    "two_phase",
    "gated",
    "gradual",
    "gradient_guided",
)


class ComparisonParams(Params):
    """Which ways of fine-tuning are compared, over which folds and seeds."""

    plans: tuple[Strategy, ...] = Field(
        COMPARED_PLANS,
        min_length=1,
        description="Strategies compared; all else of a plan is as in finetuning.plan.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="Each plan is fine-tuned once per seed in each fold."
    )
    labelled_subjects: int | None = Field(
        None,
        ge=2,
        description="Training subjects, drawn by the folds' seed, that keep their labels; all "
        "others serve pretraining only. null: all of them.",
    )
    score: ComparedScore | None = Field(
        None,
        description="What is compared; null is window_auroc for classes and nrmse for numbers.",
    )
    repeats: RepeatParams = Field(RepeatParams(), description="The subject splits.")
    work_dir: str = Field(
        "data/06_models/finetuning_comparison",
        description="Folder of finished runs, from which a run that was killed goes on.",
    )

    @field_validator("plans", "seeds")
    @classmethod
    def _each_once(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) < len(value):
            raise ValueError("expected each one once")
        return value
