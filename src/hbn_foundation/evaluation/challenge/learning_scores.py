"""Scores of models and baselines that were trained on a part of the subjects, without intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.evaluation.params import FactorEvaluationParams, ResponseTimeEvaluationParams
from hbn_foundation.evaluation.predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.tasks.factors import (
    evaluate_factors,
    main_factor,
    predicted_factors,
)
from hbn_foundation.evaluation.tasks.response_times import evaluate_response_times

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint


def scores_of_models(
    tuned: Mapping[str, Checkpoint],
    dataset: EEGDataset,
    params: ResponseTimeEvaluationParams | FactorEvaluationParams,
) -> pd.DataFrame:
    """Score models and the baselines beside them by what the challenge scores.

    Parameters
    ----------
    tuned
        Checkpoints by name, `FINE_TUNED` among them.
    dataset
        The data; the baselines are fitted on the training subjects of its splits.
    params
        Which baselines, and the seed of what is random in them.

    Returns
    -------
    pandas.DataFrame
        Of `evaluate`: response times and success, or the factor that is scored.
    """
    if isinstance(params, ResponseTimeEvaluationParams):
        times = {
            name: predict_response_times(checkpoint, dataset, params.batch_size)
            for name, checkpoint in tuned.items()
        }
        return evaluate_response_times(tuned[FINE_TUNED], dataset, params, times).scores
    numbers = {
        name: predict_numbers(checkpoint, dataset, params.batch_size)
        for name, checkpoint in tuned.items()
    }
    scores = evaluate_factors(tuned[FINE_TUNED], dataset, params, numbers).scores
    main = main_factor(predicted_factors(numbers[FINE_TUNED]))
    return scores[scores["target"] == main]
