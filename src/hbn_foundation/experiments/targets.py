"""What the jobs of a sweep call, each in its own process under supervision.

A job leaves a folder `out` whose files become its entry in the store.
"""

from __future__ import annotations

import json
import platform
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import plain
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.experiments.data import load_dataset
from hbn_foundation.experiments.hashing import data_fingerprint
from hbn_foundation.experiments.job import Entry, Job, RunContext
from hbn_foundation.experiments.specs import BASE, FINETUNE, SCRATCH, BaseSpec, FinetuneSpec
from hbn_foundation.experiments.store import METRICS, SPEC
from hbn_foundation.experiments.study import TEST, TRAIN, finetune_dataset
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.training.finetuning_params import FineTuningParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import UNTRAINED, ObjectiveParams
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

CHECKPOINT, HISTORY, ENVIRONMENT = "checkpoint", "history.csv", "environment.json"
PREDICTIONS = "predictions.parquet"
TEST_SCORES = "test"
#: Scores of the test windows, by whether the label is a number.
SCORED = {False: ("window_auroc", "balanced_accuracy", "f1"), True: ("nrmse", "mae", "r")}
HERE = "hbn_foundation.experiments.targets"


def job_of(
    spec: BaseSpec | FinetuneSpec,
    data: Path,
    keep_weights: bool = False,
) -> Job:
    """Make the job of a spec.

    Parameters
    ----------
    spec
        A base or a fine-tuning.
    data
        Folder of the dataset; what is found there has to be what the spec says.
    keep_weights
        Whether the fine-tuned weights are part of the result.
    """
    common: dict[str, Any] = {
        "key": spec.hash,
        "identity": spec.hashed(),
        "batch_size": spec.training.batch_size,
        "seconds": spec.training.max_training_time,
    }
    arguments = {"spec": spec, "data": data}
    if isinstance(spec, BaseSpec):
        return Job(BASE, target=f"{HERE}:train_base", arguments=arguments, **common)
    return Job(
        FINETUNE, target=f"{HERE}:finetune", arguments=arguments | {"keep_weights": keep_weights},
        base=None if spec.base_hash is None else Entry(BASE, spec.base_hash), **common,
    )  # fmt: skip


def train_base(run: RunContext, spec: BaseSpec, data: Path) -> dict[str, Any]:
    """Train a base; arguments as of `job_of`.

    Returns
    -------
    dict
        `stopped`: why the training ended.

    Raises
    ------
    UserError
        Data of another fingerprint, or a training that its time limit ended.
    """
    started = time.perf_counter()
    found = load_dataset(data)
    here = {"data": data_fingerprint(found, spec.subjects), "window": found.window.model_dump()}
    spec.model_copy(update=here).check_same(spec, spec.id)
    dataset = found.replace(windows=_of(found.windows, spec.subjects), splits=spec.splits)
    if spec.supervised is None:
        from hbn_foundation.training.pretrain import PretrainingJob

        recipe = PretrainingRecipe(
            encoder=spec.encoder, objective=spec.objective, trainer=spec.trainer
        )
        training = PretrainingJob(dataset, recipe, run.device_plan)
        result = training.run_in(run.folder, run_id=run.run_id, link=run.link)
    else:
        blank = untrained(run, dataset, spec.encoder)
        result = tune(run, blank, dataset, spec.supervised.recipe)
    checkpoint, history = ended(run.folder, result["stopped"])
    counts = {
        name: len(_of(dataset.windows, subjects))
        for name, subjects in (("train", spec.train_subjects),
                               ("validation", spec.validation_subjects))
    }  # fmt: skip
    out = _write_out(run, spec, history, started, {"windows": counts})
    checkpoint.save(out / CHECKPOINT)
    return result


def finetune(run: RunContext, spec: FinetuneSpec, data: Path, keep_weights: bool) -> dict[str, Any]:
    """Fine-tune for one target and predict its last run; arguments as of `job_of`."""
    from hbn_foundation.training.finetuned import predict

    started = time.perf_counter()
    found = load_dataset(data)
    here = {"data": data_fingerprint(found, [spec.target]), "window": found.window.model_dump()}
    spec.model_copy(update=here).check_same(spec, spec.id)
    checkpoint, seen = (None, ()) if run.base is None else load_base(run.base, spec)
    dataset = finetune_dataset(spec, found, seen)
    changes: dict[str, Any] = {"seed": spec.seed_finetune}
    if checkpoint is None:
        assert spec.encoder is not None
        checkpoint = untrained(run, dataset, spec.encoder)
    if spec.mode == SCRATCH:
        changes["start"] = "from_scratch"
    trainer = FineTuningParams.model_validate({**spec.tuning.trainer.model_dump(), **changes})
    recipe = spec.tuning.recipe.model_copy(update={"trainer": trainer})
    result = tune(run, checkpoint, dataset, recipe)
    tuned, history = ended(run.folder, result["stopped"])
    test = _of(dataset.windows, [f"{spec.target}+{TEST}"])
    run.link.beat("evaluation")
    answers = predict(tuned, dataset.store, test)
    counts = dataset.windows["subject"].str.rpartition("+")[2].value_counts()
    of_base = ~dataset.windows["subject"].str.contains("+", regex=False)
    windows = {name: int(counts.get(name, 0)) for name in ("train", "validation", "test")}
    table = _predictions(test, dataset, recipe, spec.target, answers)
    out = _write_out(run, spec, history, started, {
        "windows": {**windows, "base": int(of_base.sum())},
        TEST_SCORES: score_predictions(table),
        "targets": tuned.metadata["targets"],
    })  # fmt: skip
    table.to_parquet(out / PREDICTIONS, index=False)
    if keep_weights:
        tuned.save(out / CHECKPOINT)
    return result


def tune(
    run: RunContext, checkpoint: Checkpoint, dataset: EEGDataset, recipe: FineTuningRecipe
) -> dict[str, Any]:
    """Call the fine-tuning; return what it does."""
    from hbn_foundation.training.finetune import FineTuningJob

    training = FineTuningJob(dataset, recipe, run.device_plan, checkpoint)
    return training.run_in(run.folder, run_id=run.run_id, link=run.link)


def load_base(entry: Path, spec: FinetuneSpec) -> tuple[Checkpoint, tuple[str, ...]]:
    """Load a base, made sure to be the one asked for, and the names of its training subjects.

    They are those of its description: weights that were taken as they are have seen nobody.

    Raises
    ------
    UserError
        When it is another one, or has seen the target.
    """
    from hbn_foundation.training.checkpoint import Checkpoint

    base = BaseSpec.model_validate(json.loads((entry / SPEC).read_text()))
    base.check_hash(str(spec.base_hash), f"{spec.id}: {entry / SPEC}")
    if spec.target in base.subjects:
        raise UserError(f"{spec.id}: its base {base.hash} has seen the target {spec.target}")
    return Checkpoint.load(entry / CHECKPOINT), base.train_subjects


def untrained(run: RunContext, dataset: EEGDataset, encoder: EncoderParams) -> Checkpoint:
    """Make a checkpoint of random weights whose normalisation is fitted on the training subjects.

    What begins from scratch takes the architecture and the normalisation from it, and draws its
    weights from its own seed.
    """
    from hbn_foundation.training.pretrain import PretrainingJob

    encoder = encoder.model_copy(update={"weights": None})  # published ones are not random
    recipe = PretrainingRecipe(encoder=encoder, objective=ObjectiveParams(name=UNTRAINED))
    training, folder = PretrainingJob(dataset, recipe, run.device_plan), run.folder / UNTRAINED
    result = training.run_in(folder, run_id=run.run_id, link=run.link)
    return ended(folder, result["stopped"])[0]


def ended(folder: Path, stopped: str) -> tuple[Checkpoint, pd.DataFrame]:
    """Load weights and history of a training that has ended by itself.

    Raises
    ------
    UserError
        When its time limit ended it: that is not in the key, and half a training is no result.
    """
    from hbn_foundation.training.fitting import final_checkpoint

    if stopped.startswith("time limit"):
        raise UserError(
            f"{stopped}: not published; give it more max_training_time, it resumes from its last "
            "whole epoch"
        )
    return final_checkpoint(folder, stopped)


def _of(windows: pd.DataFrame, subjects: Iterable[str]) -> pd.DataFrame:
    return windows[windows["subject"].astype(str).isin(set(subjects))].reset_index(drop=True)


def _write_out(
    run: RunContext, spec: BaseSpec | FinetuneSpec, history: pd.DataFrame, started: float,
    metrics: dict[str, Any],
) -> Path:  # fmt: skip
    """Write what every entry has: the full spec, metrics, environment, history."""
    from hbn_foundation.training.fitting import library_versions

    seconds, counts = time.perf_counter() - started, metrics["windows"]
    trained = counts["train"] + counts.get("base", 0)
    losses = [] if history.empty else history["validation_loss"].dropna().tolist()
    content = {
        SPEC: spec.model_dump(mode="json", exclude=set(spec.NOT_HASHED)),
        METRICS: {
            **metrics,
            "epochs": len(history),
            "seconds": seconds,
            "windows_per_second": trained * len(history) / seconds,
            "validation_loss": min(losses, default=None),
        },
        ENVIRONMENT: {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "versions": library_versions(),
        },
    }
    for name, values in content.items():
        (run.out / name).write_text(json.dumps(plain(values), indent=1))
    history.to_csv(run.out / HISTORY, index=False)
    return run.out


def score_predictions(predictions: pd.DataFrame) -> dict[str, float]:
    """Score the predictions of test windows; NaN where there is no score, as for one class only.

    Parameters
    ----------
    predictions
        `value`, and `predicted` or `log_p_0`, `log_p_1`, … of each window.
    """
    outputs = [name for name in predictions if str(name).startswith("log_p_")]
    values = predictions["value"].to_numpy()
    answers = predictions[outputs or "predicted"].to_numpy(dtype=float)
    if outputs:
        values = values.astype(np.int64)
    return {
        name: scorer_of(name).function(values, answers) if len(values) else np.nan
        for name in SCORED[not outputs]
    }


def _predictions(
    test: pd.DataFrame, dataset: EEGDataset, recipe: FineTuningRecipe, target: str,
    answers: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Put the answers beside the truth, one row per test window."""
    values = window_targets(
        dataset.windows, dataset.participants, recipe.label, [f"{target}+{TRAIN}"]
    ).values
    tested = (dataset.windows["subject"] == f"{target}+{TEST}").to_numpy()
    return pd.DataFrame(
        {"recording": test["recording"], "start": test["start"], "value": values[tested],
         **answer_columns(answers)}
    )  # fmt: skip


def answer_columns(answers: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of answers: `predicted` of numbers (N,), `log_p_0`, … of classes (N, K)."""
    if answers.ndim == 1:
        return {"predicted": answers}
    return {f"log_p_{k}": column for k, column in enumerate(answers.T)}
