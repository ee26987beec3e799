"""Evaluate a fine-tuned checkpoint on test subjects, baselines beside it on the same windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.finetuning import (
    finetuning_metrics,
    main_score,
    predictions_table,
)
from hbn_foundation.evaluation.finetuning_baselines import baseline_answers
from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.foundation import plain, training_of
from hbn_foundation.evaluation.methods import written
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.report import signed, table
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.splits import check_disjoint, check_unseen
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

FINE_TUNED = "fine_tuned"
LOWER = ("nrmse", "mae")


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
        When a test subject was trained on, or no test window has a label.
    """
    from hbn_foundation.training.checkpoint import load_encoder
    from hbn_foundation.training.finetuning.prediction import predict

    check_disjoint(splits)
    test_subjects = splits.loc[splits["split"] == "test", "subject"].astype(str)
    check_unseen(checkpoint.metadata["training_subjects"], test_subjects)
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
    results = {
        name: finetuning_metrics(
            of_test.values,
            predictions,
            test["recording"].to_numpy(),
            test["subject"].to_numpy(),
            targets.is_regression,
            bootstraps=params.bootstraps,
            seed=params.seed,
        )
        for name, predictions in found.items()
    }
    main = main_score(targets.is_regression)
    for name, result in results.items():
        words = written_method(name, targets.is_regression)
        say(f"{words}: {score_title(main)} {result[main]:.3f}")
    metrics = {
        "label": label.model_dump(mode="json"),
        "classes": None if targets.is_regression else list(targets.names),
        "test": results,
        "best_epoch": checkpoint.metadata.get("best_epoch"),
        "training": training_of(checkpoint),
    }
    return FineTunedScores(
        plain(metrics), score_table(results, main), predictions_table(test, of_test, own)
    )


def written_method(name: str, numbers: bool = False) -> str:
    """Name a method in words, by what it predicts."""
    return "fine-tuned" if name == FINE_TUNED else written(name, numbers)


def score_table(results: dict[str, dict[str, Any]], main: str) -> pd.DataFrame:
    """One row per method with all scores that are numbers, best first."""
    numbers = main == main_score(is_regression=True)
    rows = [
        {"method": name, "name": written_method(name, numbers)}
        | {key: value for key, value in result.items() if isinstance(value, int | float)}
        for name, result in results.items()
    ]
    scores = pd.DataFrame(rows)
    return scores.sort_values(main, ascending=main in LOWER, ignore_index=True)


def finetuned_text(scores: pd.DataFrame, metrics: dict[str, Any]) -> str:
    """Write the table of a fine-tuning: its scores beside the baselines, winners and losers."""
    main = main_score(metrics["classes"] is None)
    shown = [n for n in SHOWN if n in scores and n != main and scores[n].notna().any()]
    own = float(scores.loc[scores["method"] == FINE_TUNED, main].iloc[0])
    sign = -1.0 if main in LOWER else 1.0
    rows = []
    for _, row in scores.iterrows():
        low, high = row.get(f"{main}_low"), row.get(f"{main}_high")
        interval = "" if pd.isna(low) or pd.isna(high) else f"{low:.3f} to {high:.3f}"
        ahead = "" if row["method"] == FINE_TUNED else signed(sign * (own - row[main]))
        values = ["" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in shown]
        rows.append([row["name"], f"{row[main]:.3f}", interval, *values, ahead])
    what = metrics["label"].get("column") or metrics["label"]["kind"]
    n_subjects = metrics["test"][FINE_TUNED]["n_subjects"]
    titles = [score_title(name) for name in shown]
    header = ["method", score_title(main), "95 % interval", *titles, "ahead by"]
    text = table(f"Fine-tuning for {what}: {n_subjects} test subjects", header, rows)
    if pd.isna(own):
        return f"{text}\nThe test subjects are too few to tell: none has what a score needs."
    best = scores.iloc[0]
    verdict = (
        "The fine-tuned model is ahead of every baseline on this one split."
        if best["method"] == FINE_TUNED
        else f"The fine-tuned model is behind {best['name']} on this one split."
    )
    return f"{text}\n{verdict} Only repeated splits tell how surely: finetuning_comparison."


SHOWN = ("recording_auroc", "balanced_accuracy", "f1", "r", "mae", "r2")
