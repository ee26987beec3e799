"""How each challenge is predicted, answered and scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.evaluate import Answers, Evaluation
from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.evaluation.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.predictions import (
    encoders_beside,
    predict_numbers,
    predict_response_times,
    test_windows,
)
from hbn_foundation.evaluation.sample import matched
from hbn_foundation.evaluation.tasks.challenge_baselines import Asked, challenge_baselines
from hbn_foundation.evaluation.tasks.factors import (
    asked_factors,
    main_factor,
    predicted_factors,
    score_factors,
)
from hbn_foundation.evaluation.tasks.response_times import (
    P_CORRECT,
    asked_times,
    score_response_times,
)

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

TIMES_AND_SUCCESS = ("rt", "correct")


class Challenge(NamedTuple):
    """What differs between the challenges."""

    #: Of a checkpoint, a dataset and a batch size: predictions of the test windows.
    predict: Callable[..., pd.DataFrame]
    #: Of a dataset and the predictions of the model: what is asked about its windows.
    asked: Callable[[EEGDataset, pd.DataFrame], Asked]
    #: Of answers and the parameters of the evaluation.
    score: Callable[..., Evaluation]
    #: Of the table of answers: the targets that the challenge scores.
    scored: Callable[[pd.DataFrame], tuple[str, ...]]


RESPONSE_TIMES = Challenge(
    predict_response_times,
    lambda dataset, _: asked_times(dataset),
    score_response_times,
    lambda _: TIMES_AND_SUCCESS,
)
FACTORS = Challenge(
    predict_numbers,
    lambda dataset, own: asked_factors(dataset, predicted_factors(own)),
    score_factors,
    lambda answers: (main_factor(predicted_factors(answers)),),
)


def challenge_of(params: Any) -> Challenge:
    """Tell the challenge by the parameters of its evaluation."""
    assert isinstance(params, ResponseTimeEvaluationParams | FactorEvaluationParams)
    return RESPONSE_TIMES if isinstance(params, ResponseTimeEvaluationParams) else FACTORS


def all_answers(
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    params: Any,
    predictions: Mapping[str, pd.DataFrame],
) -> Answers:
    """Bring together what the models and the baselines predict for the test windows.

    Parameters
    ----------
    checkpoint, dataset
        The model and the data.
    params
        Of the challenge: which baselines.
    predictions
        By method, `fine_tuned` among them: a row per test window with `recording`, `start` and
        the predictions; success may not be among them.

    Returns
    -------
    Answers
        A row per method and test window: `method`, `recording`, `subject`, `start`, the truth and
        the predictions.

    Raises
    ------
    UserError
        When the model has seen a test subject, the truth is known of too few windows or subjects,
        or predictions and test windows are not the same.
    """
    test_windows(checkpoint, dataset)
    asked = challenge_of(params).asked(dataset, predictions[FINE_TUNED])
    n_samples, encoders = checkpoint.metadata["n_samples"], encoders_beside(checkpoint, params)
    chosen, baselines = challenge_baselines(asked, dataset, params, n_samples, encoders)
    test, models = chosen.test, {}
    for name, table in predictions.items():
        silent = [] if P_CORRECT in table and table[P_CORRECT].notna().any() else [P_CORRECT]
        said = [column for column in asked.columns if column not in silent]
        models[name] = matched(table, test, said, name).reindex(columns=asked.columns)
    windows = test[["recording", "subject", "start", *asked.truth]]
    return Answers.of(windows, {**models, **baselines}, chosen.about(dataset))
