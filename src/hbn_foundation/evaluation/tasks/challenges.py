"""How each challenge is predicted, answered and scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.evaluate import Answers, Evaluation
from hbn_foundation.evaluation.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.tasks.factors import (
    answer_windows,
    main_factor,
    predicted_factors,
    score_factors,
)
from hbn_foundation.evaluation.tasks.response_times import answer_trials, score_response_times

TIMES_AND_SUCCESS = ("rt", "correct")


class Challenge(NamedTuple):
    """What differs between the challenges."""

    #: Of a checkpoint, a dataset and a batch size: predictions of the test windows.
    predict: Callable[..., pd.DataFrame]
    #: Of a checkpoint, a dataset, the parameters of the evaluation, and predictions by method.
    answer: Callable[..., Answers]
    #: Of answers and the parameters of the evaluation.
    score: Callable[..., Evaluation]
    #: Of the table of answers: the targets that the challenge scores.
    scored: Callable[[pd.DataFrame], tuple[str, ...]]


RESPONSE_TIMES = Challenge(
    predict_response_times, answer_trials, score_response_times, lambda _: TIMES_AND_SUCCESS
)
FACTORS = Challenge(
    predict_numbers,
    answer_windows,
    score_factors,
    lambda answers: (main_factor(predicted_factors(answers)),),
)


def challenge_of(params: Any) -> Challenge:
    """Tell the challenge by the parameters of its evaluation."""
    assert isinstance(params, ResponseTimeEvaluationParams | FactorEvaluationParams)
    return RESPONSE_TIMES if isinstance(params, ResponseTimeEvaluationParams) else FACTORS
