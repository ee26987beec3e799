"""All parameters of a pipeline that trains and evaluates, as one nested model each."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from hbn_foundation.evaluation.params import (
    ChallengeEvaluationParams,
    EvaluationParams,
    FactorEvaluationParams,
    FineTuningEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.signals.params import CropWindowParams, TrialWindowParams
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe


class FoundationRecipe(PretrainingRecipe):
    """Pretraining of the encoder, and its evaluation."""

    checkpoint: str = Field(
        "foundation_checkpoint",
        description="What is evaluated where a run begins at evaluate_encoder, as of "
        "finetuning.checkpoint.",
        min_length=1,
    )
    evaluation: EvaluationParams = Field(
        EvaluationParams(), description="What the frozen encoder is probed for."
    )


class LabelRecipe(FineTuningRecipe):
    """Fine-tuning for any label, and its evaluation."""

    aims: tuple[float, ...] = Field(
        (), description="What the judged metric is to reach in each phase, for the closing table."
    )
    trial_windows: TrialWindowParams = Field(
        TrialWindowParams(), description="Windows of labels of trials."
    )
    evaluation: FineTuningEvaluationParams = Field(
        FineTuningEvaluationParams(), description="What stands beside the model."
    )

    @property
    def strata_column(self) -> str | None:
        """Column of participants.tsv whose levels weigh alike in each class."""
        return self.evaluation.stratify_scores_by

    @model_validator(mode="after")
    def _strata_fit(self) -> Self:
        self.evaluation.check_strata(self.label)
        return self


class ChallengeRecipe(FineTuningRecipe):
    """What both challenges share."""

    evaluation: ChallengeEvaluationParams = Field(
        ChallengeEvaluationParams(), description="What stands beside the model."
    )

    @model_validator(mode="after")
    def _window_by_window(self) -> Self:
        if self.context.is_used:
            raise ValueError(
                f"context.of={self.context.of!r}: the challenge hands out single windows; expected "
                "window"
            )
        return self


class Challenge1Recipe(ChallengeRecipe):
    """Response time and success of trials."""

    windows: TrialWindowParams = Field(TrialWindowParams(), description="A window per trial.")
    evaluation: ResponseTimeEvaluationParams = Field(
        ResponseTimeEvaluationParams(), description="What stands beside the model."
    )


class Challenge2Recipe(ChallengeRecipe):
    """Psychopathology factors of subjects."""

    windows: CropWindowParams = Field(
        CropWindowParams(), description="Windows of which the model sees a crop."
    )
    evaluation: FactorEvaluationParams = Field(
        FactorEvaluationParams(), description="What stands beside the model."
    )


RECIPES: dict[str, type[FineTuningRecipe]] = {
    "finetuning": LabelRecipe,
    "challenge1": Challenge1Recipe,
    "challenge2": Challenge2Recipe,
}
"""By the namespace of their pipeline, which is their group of parameters."""
