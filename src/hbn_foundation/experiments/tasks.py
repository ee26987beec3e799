"""What the jobs of cross-validation, comparisons and learning curves call, each in its own process.

Splits travel with the job, for they are small and differ between jobs; signals and windows lie in
a folder that all jobs of an experiment share.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.evaluate import plain, window_task
from hbn_foundation.evaluation.methods import FINE_TUNED, REFERENCE, SCRATCH
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.recipes import ChallengeRecipe
from hbn_foundation.evaluation.scorers import AHEAD
from hbn_foundation.evaluation.tasks.challenges import all_answers, challenge_of
from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation
from hbn_foundation.evaluation.tasks.labels import TARGET
from hbn_foundation.experiments.data import load_dataset
from hbn_foundation.experiments.job import RunContext
from hbn_foundation.experiments.store import METRICS, SCORES
from hbn_foundation.experiments.targets import (
    CHECKPOINT,
    HISTORY,
    PREDICTIONS,
    ended,
    tune,
)
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import damage, epochs_in

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint


SECONDS_BETWEEN_BEATS = 2.0


def pretrain_encoder(
    run: RunContext, data: Path, splits: pd.DataFrame, recipe: PretrainingRecipe
) -> dict[str, Any]:
    """Pretrain on the training subjects of a fold."""
    from hbn_foundation.training.job import training_record
    from hbn_foundation.training.pretrain import PretrainingJob

    dataset = load_dataset(data).replace(splits=splits)
    training = PretrainingJob(dataset, recipe, run.device_plan)
    result = training.run_in(run.folder, run_id=run.run_id, link=run.link)
    checkpoint, history = ended(run.folder, result["stopped"])
    checkpoint.metadata |= training_record(history, read_incidents(run.folder))
    out = run.out
    checkpoint.save(out / CHECKPOINT)
    history.to_csv(out / HISTORY, index=False)
    return result


def probe_encoder(
    run: RunContext, data: Path, splits: pd.DataFrame, evaluation: EvaluationParams
) -> dict[str, Any]:
    """Score a frozen encoder and the baselines on the test subjects of a fold."""
    dataset = load_dataset(data).replace(splits=splits)
    with beating(run.link):
        scores = evaluate_foundation(load_base(run), dataset, evaluation)
    (run.out / METRICS).write_text(json.dumps(scores.metrics, indent=1))
    return {"stopped": "scored"}


def answer_tests(
    run: RunContext,
    data: Path,
    splits: pd.DataFrame,
    recipe: ChallengeRecipe,
    methods: Sequence[str],
) -> dict[str, Any]:
    """Learn a challenge on the training subjects, and predict the test subjects by all methods."""
    params: Any = recipe.evaluation
    dataset = load_dataset(data).replace(splits=splits)
    trained = each_trained(run, load_base(run), dataset, recipe, methods)
    tuned = {method: checkpoint for method, checkpoint, _ in trained}
    challenge = challenge_of(params)
    with beating(run.link):
        found = {n: challenge.predict(one, dataset, params.batch_size) for n, one in tuned.items()}
        answers = all_answers(tuned[FINE_TUNED], dataset, params, found)
        scores = challenge.score(answers, params.model_copy(update={"bootstraps": 0})).scores
    scores = scores[scores["target"].isin(challenge.scored(answers.table))]
    scores = scores[(scores["kind"] != REFERENCE) & ~scores["metric"].str.endswith(AHEAD)]
    rows = [
        {"method": str(method), **dict(zip(part["metric"], part["value"], strict=True))}
        for method, part in scores.groupby("method", sort=False)
    ]
    write_scores(run, rows, answers.table)
    (run.out / METRICS).write_text(json.dumps(plain(answers.about), indent=1))
    return {"stopped": "scored"}


def each_trained(
    run: RunContext,
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    methods: Sequence[str],
) -> Iterator[tuple[str, Checkpoint, pd.DataFrame]]:
    """Fine-tune as the recipe says, or from random weights; yield method, model and history."""
    for number, method in enumerate(methods):
        own = recipe
        if method == SCRATCH:
            trainer = recipe.trainer.model_copy(update={"start": "from_scratch"})
            own = recipe.model_copy(update={"trainer": trainer})
        of_method = beside(run) if number else run
        result = tune(of_method, foundation, dataset, own)
        yield method, *ended(of_method.folder, result["stopped"])


def beside(run: RunContext) -> RunContext:
    """Give what another training in the same process needs: checkpoints and orders of its own."""
    folder, orders = run.folder / SCRATCH, run.link.orders
    folder.mkdir(exist_ok=True)
    whole = [path for path in epochs_in(folder) if damage(path) is None]
    if orders is not None:
        orders = replace(orders, resume_from=str(whole[-1]) if whole else None)
    link = Link(run.folder, orders)
    link.listen()
    return replace(run, folder=folder, link=link)


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


def load_base(run: RunContext) -> Checkpoint:
    """Load the checkpoint that a job begins at."""
    from hbn_foundation.training.checkpoint import Checkpoint

    assert run.base is not None
    return Checkpoint.load(run.base / CHECKPOINT)


def write_scores(run: RunContext, rows: list[dict[str, Any]], predictions: pd.DataFrame) -> None:
    """Write the result of a job: scores of methods, and predictions of test windows."""
    out = run.out
    (out / SCORES).write_text(json.dumps(plain(rows), indent=1))
    predictions.to_parquet(out / PREDICTIONS, index=False)


def main_score(windows: pd.DataFrame, values: np.ndarray, predictions: np.ndarray) -> float:
    """Score predictions of windows (N rows) by the metric that methods are compared by."""
    task = window_task(FINE_TUNED, TARGET, values, windows)
    part = task.parts(predictions)[0]
    return float(part.score(np.arange(len(part.subjects)))[TARGET, task.main])


def rows_of(dataset: EEGDataset, targets: WindowTargets, split: str) -> np.ndarray:
    """Rows (n,) of the windows of a split whose target is known."""
    splits, windows = dataset.splits, dataset.windows
    subjects = splits.loc[splits["split"] == split, "subject"].astype(str)
    return np.flatnonzero(windows["subject"].astype(str).isin(subjects) & targets.known)
