"""What the jobs of cross-validation, comparisons and learning curves call, each in its own process.

Splits travel with the job, for they are small and differ between jobs; signals and windows lie in
a folder that all jobs of an experiment share.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.evaluate import evaluate, main_metric, plain, window_task
from hbn_foundation.evaluation.methods import FINE_TUNED, REFERENCE, SCRATCH
from hbn_foundation.evaluation.params import (
    EvaluationParams,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.recipes import ChallengeRecipe, LabelRecipe
from hbn_foundation.evaluation.scorers import AHEAD, scorer_of
from hbn_foundation.evaluation.tasks.factors import (
    evaluate_factors,
    main_factor,
    predicted_factors,
)
from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation
from hbn_foundation.evaluation.tasks.labels import TARGET, label_baselines, targets_of
from hbn_foundation.evaluation.tasks.response_times import evaluate_response_times
from hbn_foundation.experiments.data import load_dataset
from hbn_foundation.experiments.job import OUT
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.experiments.targets import (
    CHECKPOINT,
    HISTORY,
    PREDICTIONS,
    answer_columns,
    begin,
    ended,
    tune,
)
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.run_folder import damage, epochs_in

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.supervision.link import Link

SCORES = "scores.json"
SECONDS_BETWEEN_BEATS = 2.0


def pretrain_encoder(
    folder: Path, data: Path, splits: pd.DataFrame, recipe: PretrainingRecipe, link: Link,
    run_id: str, device_plan: dict[str, Any], threads: int | None, **_: Any,
) -> dict[str, Any]:  # fmt: skip
    """Pretrain on the training subjects of a fold."""
    from hbn_foundation.training.job import training_record
    from hbn_foundation.training.pretrain import PretrainingJob

    begin(threads)
    dataset = load_dataset(data).replace(splits=splits)
    training = PretrainingJob(dataset, recipe, device_plan)
    result = training.run_in(folder, run_id=run_id, link=link)
    checkpoint, history = ended(folder, result["stopped"])
    checkpoint.metadata |= training_record(history, read_incidents(folder))
    out = _out(folder)
    checkpoint.save(out / CHECKPOINT)
    history.to_csv(out / HISTORY, index=False)
    return result


def probe_encoder(
    folder: Path, data: Path, splits: pd.DataFrame, evaluation: EvaluationParams, base: Path,
    link: Link, threads: int | None, **_: Any,
) -> dict[str, Any]:  # fmt: skip
    """Score a frozen encoder and the baselines on the test subjects of a fold."""
    begin(threads)
    dataset = load_dataset(data).replace(splits=splits)
    with beating(link):
        scores = evaluate_foundation(_load(base), dataset, evaluation)
    (_out(folder) / METRICS).write_text(json.dumps(scores.metrics, indent=1))
    return {"stopped": "scored"}


def finetune_plan(
    folder: Path, data: Path, splits: pd.DataFrame, recipe: LabelRecipe, base: Path, link: Link,
    run_id: str, device_plan: dict[str, Any], threads: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune by one plan, and score it on the test windows of a fold."""
    from hbn_foundation.training.finetuned import predict

    begin(threads)
    dataset = load_dataset(data).replace(splits=splits)
    result = tune(folder, _load(base), dataset, recipe, device_plan, run_id, link)
    tuned, history = ended(folder, result["stopped"])
    targets, store = targets_of(dataset, recipe.label), dataset.store
    batch_size = recipe.evaluation.batch_size
    with beating(link):
        chosen, test = (rows_of(dataset, targets, name) for name in ("validation", "test"))
        answers = predict(tuned, store, _at(dataset, chosen), batch_size)
        costs = {
            "validation": scorer_of(main_metric(targets.is_regression)).function(
                targets.values[chosen], answers
            ),
            "epochs": len(history),
            "seconds": float(history["seconds"].sum()),
            "trainable": _trained_parameters(tuned, history),
        }
        windows, values = _at(dataset, test), targets.values[test]
        predictions = predict(tuned, store, windows, batch_size)
        strategy = recipe.plan.strategy
        row, table = _scored(dataset, recipe, targets, windows, values, strategy, predictions)
    _write_scores(folder, [row | costs], table)
    return result


def fit_baselines(
    folder: Path, data: Path, splits: pd.DataFrame, recipe: LabelRecipe, base: Path, link: Link,
    threads: int | None, **_: Any,
) -> dict[str, Any]:  # fmt: skip
    """Fit all baselines of a label on the same subjects and windows, and score them."""
    from hbn_foundation.training.checkpoint import load_encoder

    begin(threads)
    dataset, checkpoint = load_dataset(data).replace(splits=splits), _load(base)
    targets = targets_of(dataset, recipe.label)
    rows, tables = [], []
    with beating(link):
        sample, answers = label_baselines(
            dataset, targets, recipe.label, recipe.evaluation, checkpoint.metadata["n_samples"],
            load_encoder(checkpoint),
        )  # fmt: skip
        values = sample.test[TARGET].to_numpy()
        for method, answer in answers.items():
            row, table = _scored(
                dataset, recipe, targets, sample.test, values, method, answer.predictions[0]
            )
            costs = {
                "validation": answer.fits[0].validation,
                "epochs": np.nan,
                "seconds": answer.seconds,
                "trainable": answer.n_features,
            }
            rows.append(row | costs)
            tables.append(table)
    _write_scores(folder, rows, pd.concat(tables, ignore_index=True))
    return {"stopped": "scored"}


def learn_share(
    folder: Path, data: Path, splits: pd.DataFrame, recipe: ChallengeRecipe, scratch: bool,
    base: Path, link: Link, run_id: str, device_plan: dict[str, Any], threads: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Learn from a share of the subjects, also from random weights, and score the test subjects."""
    begin(threads)
    dataset, foundation = load_dataset(data).replace(splits=splits), _load(base)
    tuned = {}
    for method in (FINE_TUNED, SCRATCH) if scratch else (FINE_TUNED,):
        changes, place, told = {}, folder, link
        if method == SCRATCH:
            changes, place = {"start": "from_scratch"}, folder / SCRATCH
            place.mkdir(exist_ok=True)
            told = _second_link(folder, place, link)
        trainer = recipe.trainer.model_copy(update=changes)
        own = recipe.model_copy(update={"trainer": trainer})
        result = tune(place, foundation, dataset, own, device_plan, run_id, told)
        tuned[method], _ = ended(place, result["stopped"])
    params: Any = recipe.evaluation.model_copy(
        update={"bootstraps": 0, "seed": recipe.trainer.seed}
    )
    with beating(link):
        scores = scores_of_models(tuned, dataset, params)
    scores = scores[(scores["kind"] != REFERENCE) & ~scores["metric"].str.endswith(AHEAD)]
    rows = [
        {"method": str(method), **dict(zip(part["metric"], part["value"], strict=True))}
        for method, part in scores.groupby("method", sort=False)
    ]
    (_out(folder) / SCORES).write_text(json.dumps(plain(rows), indent=1))
    return result


def _second_link(folder: Path, place: Path, link: Link) -> Link:
    """Make the link of another training in the same process; it has checkpoints of its own."""
    from hbn_foundation.training.supervision.link import Link

    assert link.orders is not None
    whole = [path for path in epochs_in(place) if damage(path) is None]
    resume = str(whole[-1]) if whole else None
    second = Link(folder, replace(link.orders, resume_from=resume))
    second.listen()
    return second


def scores_of_models(
    tuned: dict[str, Checkpoint],
    dataset: EEGDataset,
    params: ResponseTimeEvaluationParams | FactorEvaluationParams,
) -> pd.DataFrame:
    """Score models, `FINE_TUNED` among them, and baselines by what the challenge scores.

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


@contextlib.contextmanager
def beating(link: Link) -> Iterator[None]:
    """Beat inside the block, whose parts are no steps; end this process when it is to stop."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(SECONDS_BETWEEN_BEATS):
            if link.asked_to_stop is not None:
                os._exit(1)
            link.beat("evaluation")

    link.beat("evaluation")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _out(folder: Path) -> Path:
    out = folder / OUT
    out.mkdir(exist_ok=True)
    return out


def _load(base: Path) -> Checkpoint:
    from hbn_foundation.training.checkpoint import Checkpoint

    return Checkpoint.load(base / CHECKPOINT)


def _write_scores(folder: Path, rows: list[dict[str, Any]], predictions: pd.DataFrame) -> None:
    out = _out(folder)
    (out / SCORES).write_text(json.dumps(plain(rows), indent=1))
    predictions.to_parquet(out / PREDICTIONS, index=False)


def _scored(
    dataset: EEGDataset, recipe: LabelRecipe, targets: WindowTargets, windows: pd.DataFrame,
    values: np.ndarray, method: str, predictions: np.ndarray,
) -> tuple[dict[str, Any], pd.DataFrame]:  # fmt: skip
    """Scores of one method on the test windows, and its predictions to be stacked."""
    task = window_task(method, TARGET, values, windows)
    scores = evaluate(task, {method: predictions}, {}, n_samples=0)
    splits = dataset.splits
    with_windows = splits["subject"].astype(str).isin(dataset.windows["subject"].astype(str))
    counts = splits.loc[with_windows, "split"].value_counts()
    n_windows = len(rows_of(dataset, targets, "train"))
    row = {
        "method": method,
        "n_train": int(counts["train"]),
        "n_test": int(counts["test"]),
        "train_windows": n_windows,
        "fitted_windows": min(n_windows, recipe.evaluation.max_windows),
        "n_channels": len(dataset.store.positions),
        **dict(zip(scores["metric"], scores["value"], strict=True)),
        "n_windows": len(windows),
        "n_recordings": windows["recording"].nunique(),
        "n_subjects": windows["subject"].nunique(),
    }
    subjects = windows["subject"].astype(str).to_numpy()
    table = {"method": method, "subject": subjects, "value": values, **answer_columns(predictions)}
    return row, pd.DataFrame(table)


def rows_of(dataset: EEGDataset, targets: WindowTargets, split: str) -> np.ndarray:
    """Rows (n,) of the windows of a split whose target is known."""
    splits, windows = dataset.splits, dataset.windows
    subjects = splits.loc[splits["split"] == split, "subject"].astype(str)
    return np.flatnonzero(windows["subject"].astype(str).isin(subjects) & targets.known)


def _at(dataset: EEGDataset, rows: np.ndarray) -> pd.DataFrame:
    return dataset.windows.iloc[rows].reset_index(drop=True)


def _trained_parameters(checkpoint: Checkpoint, history: pd.DataFrame) -> int:
    """Count the parameters of the blocks that were trained in any epoch."""
    from hbn_foundation.training.finetuned import load_finetuned

    sizes = load_finetuned(checkpoint).sizes()
    return sum(sizes[name] for name in {*",".join(history["trainable"]).split(",")} if name)
