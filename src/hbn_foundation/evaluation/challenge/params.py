"""Parameters of the evaluation of the challenge's two tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.params import Params

ResponseTimeBaseline = Literal[
    "constant",
    "median",
    "age_sex",
    "band_power",
    "filter_bank",
    "riemann",
    "time_bins",
    "boosted_trees",
    "random_weights",
]
FactorBaseline = Literal[
    "constant", "median", "age_sex", "band_power", "filter_bank", "riemann", "random_weights"
]
RESPONSE_TIME_BASELINES: tuple[ResponseTimeBaseline, ...] = (
    "constant",
    "median",
    "age_sex",
    "band_power",
    "time_bins",
    "boosted_trees",
    "random_weights",
)
FACTOR_BASELINES: tuple[FactorBaseline, ...] = (
    "constant",
    "median",
    "age_sex",
    "band_power",
    "filter_bank",
    "random_weights",
)


class BoostingParams(Params):
    """Gradient-boosted trees; the validation subjects choose their size and number."""

    leaves: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (4, 12), min_length=1, description="Most leaves of a tree, to choose from."
    )
    max_trees: int = Field(200, ge=1, description="Most trees; how many are used is chosen.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Share of each tree that counts.")
    min_samples_leaf: int = Field(20, ge=1, description="Fewest windows in a leaf.")


class ChallengeEvaluationParams(BaselineParams):
    """What both of the challenge's tasks are evaluated with."""

    max_windows: int = Field(
        20_000,
        ge=10,
        description="Most training and most validation windows of the baselines; more are thinned "
        "evenly. Test windows are never thinned.",
    )
    others: dict[str, str] = Field(
        {},
        description="Further models to stand beside, by name: the predictions.parquet of each, of "
        "the same test windows.",
    )


class ResponseTimeEvaluationParams(ChallengeEvaluationParams):
    """What response times and success are compared with, on the same subjects and windows."""

    baselines: tuple[ResponseTimeBaseline, ...] = Field(
        RESPONSE_TIME_BASELINES,
        min_length=1,
        description="Methods scored beside the model; random_weights needs a checkpoint.",
    )
    bin_seconds: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Width of the time bins that ridge and trees see, in s.",
    )
    boosting: BoostingParams = Field(BoostingParams(), description="The gradient-boosted trees.")
    success_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Probability above which a trial is called correct, for the balanced accuracy; "
        "null: the share of correct trials among the training windows.",
    )


class FactorEvaluationParams(ChallengeEvaluationParams):
    """What factors are compared with, and how windows become one prediction per subject."""

    baselines: tuple[FactorBaseline, ...] = Field(
        FACTOR_BASELINES,
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


class LearningCurveParams(Params):
    """Over which shares of the training subjects the scores are followed, and how often."""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.1, 0.25, 0.5, 0.75, 1.0),
        min_length=1,
        description="Shares of the training subjects that keep their labels, each within the "
        "next; at least two subjects.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="Each draws other subsets, and trains otherwise."
    )
    scratch: bool = Field(
        True, description="Whether a model from random weights is trained beside each."
    )
    same_steps: bool = Field(
        True,
        description="Whether a smaller subset is gone through more often, so that every run has as "
        "many steps, and as many without improvement before it stops; else few subjects also mean "
        "a short training. Epochs that a plan itself names stay.",
    )
    n_jobs: int = Field(1, ge=1, description="Runs at once on a CPU, each a process of its own.")
    work_dir: str = Field(
        "data/06_models/learning_curve",
        description="Folder of finished runs, from which one that was killed goes on.",
    )

    @field_validator("shares", "seeds")
    @classmethod
    def _each_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"expected each one once, found {list(value)}")
        return value
