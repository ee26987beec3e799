"""Scores of models and baselines that were trained on a part of the subjects, without intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.evaluation.challenge.checkpoints import unlearned
from hbn_foundation.evaluation.challenge.factor_baselines import factor_baselines
from hbn_foundation.evaluation.challenge.factors import factor_scores, main_factor
from hbn_foundation.evaluation.challenge.features import RANDOM
from hbn_foundation.evaluation.challenge.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import model_answers, response_time_scores
from hbn_foundation.evaluation.challenge.response_time_baselines import (
    response_time_baselines,
    training_share,
)
from hbn_foundation.evaluation.challenge.subjects import PREDICTED, people_of, predicted_factors
from hbn_foundation.evaluation.challenge.windows import matched
from hbn_foundation.evaluation.challenge_predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.methods import FINE_TUNED, written
from hbn_foundation.labels.participants import factor_table

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


def time_scores(
    tuned: Mapping[str, Checkpoint],
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
) -> dict[str, dict[str, float]]:
    """Score models of response times and the baselines beside them, all on the test trials.

    Parameters
    ----------
    tuned
        Checkpoints by name, `FINE_TUNED` among them.
    store, windows, splits, participants
        The data; the baselines are fitted on the training subjects of these splits.
    params
        Which baselines, and the seed of what is random in them.

    Returns
    -------
    dict
        By method, scores as `response_time_scores` names them.
    """
    model = tuned[FINE_TUNED]
    test, answers = response_time_baselines(
        store, windows, splits, factor_table(participants), params, model.metadata["n_samples"],
        unlearned(model, params.seed) if RANDOM in params.baselines else None,
    )  # fmt: skip
    for name, checkpoint in tuned.items():
        table = predict_response_times(checkpoint, store, windows, splits, params.batch_size)
        answers[name] = model_answers(table, test, name)
    share = training_share(
        windows.assign(split=windows["subject"].map(splits.set_index("subject")["split"]))
    )
    threshold = share if params.success_threshold is None else params.success_threshold
    return {
        name: {
            key: one.value for key, one in response_time_scores(test, said, threshold, 0).items()
        }
        for name, said in answers.items()
    }


def main_factor_scores(
    tuned: Mapping[str, Checkpoint],
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: FactorEvaluationParams,
) -> dict[str, dict[str, float]]:
    """Score models of factors and the baselines beside them, by the factor that is scored there.

    As `time_scores`, the scores named as in `factor_scores`.
    """
    said = {
        name: predict_numbers(checkpoint, store, windows, splits, params.batch_size)
        for name, checkpoint in tuned.items()
    }
    model, factors = tuned[FINE_TUNED], predicted_factors(said[FINE_TUNED])
    test, answers = factor_baselines(
        store, windows, splits, people_of(participants, factors), factors, params,
        model.metadata["n_samples"],
        unlearned(model, params.seed) if RANDOM in params.baselines else None,
    )  # fmt: skip
    columns = [PREDICTED + name for name in factors]
    for name, table in said.items():
        answers[name] = matched(table, test, columns, f"predictions of {written(name)}").to_numpy()
    start = f"{main_factor(factors)}."
    return {
        name: {
            key.removeprefix(start): one.value
            for key, one in factor_scores(test, answer, factors, params).items()
            if key.startswith(start)
        }
        for name, answer in answers.items()
    }
