"""Evaluate a fine-tuned checkpoint on test subjects, baselines beside it on the same windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.finetuning import (
    finetuning_metrics,
    main_score,
    main_score_of,
    predictions_table,
)
from hbn_foundation.evaluation.finetuning_baselines import baseline_answers
from hbn_foundation.evaluation.foundation import plain, training_of, with_ends
from hbn_foundation.evaluation.methods import FINE_TUNED, written
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.sample import count_sample
from hbn_foundation.evaluation.wording import score_title
from hbn_foundation.labels.checks import check_disjoint, check_never_seen
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.progress import say
from hbn_foundation.scores import lower_is_better

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


class FineTunedScores(NamedTuple):
    """What the evaluation of a fine-tuned checkpoint gives.

    Attributes
    ----------
    metrics
        Everything that is a number, ready for JSON.
    scores
        One row per method, best first.
    predictions
        The model's answer for each test window.
    """

    metrics: dict[str, Any]
    scores: pd.DataFrame
    predictions: pd.DataFrame


def evaluate_finetuned(
    checkpoint: Checkpoint,
    foundation: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    label: LabelParams,
    params: FineTuningEvaluationParams,
) -> FineTunedScores:
    """Score the test windows, and fit and score the baselines.

    Parameters
    ----------
    checkpoint
        Fine-tuned.
    foundation
        What it was fine-tuned from, for the frozen probe.
    store, windows, splits, participants
        The data.
    label
        What was learned.
    params
        Which baselines.

    Returns
    -------
    FineTunedScores

    Raises
    ------
    UserError
        When a test subject was trained on or chose the best epoch, or no test window has a label.
    """
    from hbn_foundation.training.checkpoint import load_encoder
    from hbn_foundation.training.finetuned import predict

    check_disjoint(splits)
    test_subjects = splits.loc[splits["split"] == "test", "subject"].astype(str)
    check_never_seen(checkpoint.metadata, test_subjects)
    training = splits.loc[splits["split"] == "train", "subject"].astype(str)
    targets = window_targets(windows, participants, label, training)
    places, answers = baseline_answers(
        store, windows, splits, targets, params, checkpoint.metadata["n_samples"],
        load_encoder(foundation),
    )  # fmt: skip
    test = windows.iloc[places].reset_index(drop=True)
    of_test = targets._replace(values=targets.values[places])
    own = predict(checkpoint, store, test, params.batch_size)
    found = {FINE_TUNED: own} | {name: answer.predictions for name, answer in answers.items()}
    recordings, subjects = test["recording"].to_numpy(), test["subject"].to_numpy()
    regression = targets.is_regression
    scores = {
        name: main_score_of(
            of_test.values, said, subjects, regression, params.bootstraps, params.seed
        )
        for name, said in found.items()
    }
    split_of = windows["subject"].map(splits.set_index("subject")["split"])
    main = main_score(regression)
    results = {
        name: finetuning_metrics(of_test.values, said, recordings, subjects, regression)
        | with_ends(main, scores[name], scores[FINE_TUNED])
        for name, said in found.items()
    }
    for name, result in results.items():
        words = written(name, targets.is_regression)
        say(f"{words}: {score_title(main)} {result[main]:.3f}")
    metrics = {
        "label": label.model_dump(mode="json"),
        "classes": None if targets.is_regression else list(targets.names),
        "test": results,
        "sample": count_sample(
            split_of[targets.known], windows.loc[targets.known, "subject"], params.max_windows
        ),
        "n_channels": len(store.positions),
        "best_epoch": checkpoint.metadata.get("best_epoch"),
        "training": training_of(checkpoint),
    }
    return FineTunedScores(
        plain(metrics), score_table(results, main), predictions_table(test, of_test, own)
    )


def score_table(results: dict[str, dict[str, Any]], main: str) -> pd.DataFrame:
    """One row per method with all scores that are numbers, best first."""
    numbers = main == main_score(is_regression=True)
    rows = [
        {"method": name, "name": written(name, numbers)}
        | {key: value for key, value in result.items() if isinstance(value, int | float)}
        for name, result in results.items()
    ]
    scores = pd.DataFrame(rows)
    return scores.sort_values(main, ascending=lower_is_better(main), ignore_index=True)
