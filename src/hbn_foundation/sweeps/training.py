"""All that a job calls of the training: in its own process, under supervision.

A job leaves a folder `out` whose files become its entry in the store.
"""

from __future__ import annotations

import json
import platform
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.sweeps.data import DataPlace
from hbn_foundation.sweeps.fingerprint import data_fingerprint
from hbn_foundation.sweeps.jobs import base_not_found
from hbn_foundation.sweeps.planner import Data
from hbn_foundation.sweeps.specs import SCRATCH, BaseSpec, FinetuneSpec, Tuning
from hbn_foundation.sweeps.store import METRICS, SPEC
from hbn_foundation.sweeps.study import TEST, TRAIN, finetune_tables
from hbn_foundation.training.finetuning_params import FineTuningParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.supervision.link import Link

OUT, CHECKPOINT, HISTORY, ENVIRONMENT = "out", "checkpoint", "history.csv", "environment.json"
PREDICTIONS = "predictions.parquet"
#: What a fork server imports, so that a job starts at once.
PRELOAD = (
    "hbn_foundation.sweeps.training",
    "hbn_foundation.training.pretrain",
    "hbn_foundation.training.pretraining_module",
    "hbn_foundation.training.objectives.make",
    "hbn_foundation.training.finetune",
    "hbn_foundation.training.head_fitting",
    "hbn_foundation.training.finetuned",
    "hbn_foundation.training.callbacks.checkpoints",
    "hbn_foundation.training.callbacks.phases",
    "hbn_foundation.training.callbacks.progress",
    "safetensors.torch",
    "lightning",
)


def train_base_in(
    folder: Path, spec: BaseSpec, data: DataPlace, device_plan: dict[str, Any], threads: int,
    *, run_id: str, link: Link, **_: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train a base, and leave its entry in `out`.

    Parameters
    ----------
    folder
        Of the run: checkpoints of epochs, `out`.
    spec
        The job.
    data
        Where the data lies; what is found there has to be what the spec says.
    device_plan
        `chosen` says where to train.
    threads
        Of each operation.
    run_id, link
        As the supervised child is given them.

    Returns
    -------
    dict
        `stopped`: why the training ended.

    Raises
    ------
    UserError
        Data of another fingerprint, or a training that its time limit ended.
    """
    started = _begin(threads)
    found = data.load()
    here = {
        "data": data_fingerprint(found.store, found.windows_of(spec.kind), spec.subjects),
        "window": data.window.model_dump(), "cleaning": data.cleaning.model_dump(),
    }  # fmt: skip
    spec.model_copy(update=here).check_same(spec, spec.id)
    names = {"train": spec.train_subjects, "validation": spec.validation_subjects}
    rows = [(subject, split) for split, subjects in names.items() for subject in subjects]
    splits = pd.DataFrame(rows, columns=["subject", "split"])
    windows = _of(found.windows_of(spec.kind), spec.subjects)
    if spec.supervised is None:
        from hbn_foundation.training.pretrain import PretrainingJob

        recipe = PretrainingRecipe(
            encoder=spec.encoder, objective=spec.objective, trainer=spec.trainer
        )
        dataset = EEGDataset(found.store, windows, splits, found.participants, data.window)
        job = PretrainingJob(dataset, recipe, device_plan)
        stopped = job.run_in(folder, run_id=run_id, link=link)["stopped"]
    else:
        blank = untrained(found, windows, spec.train_subjects, spec.encoder, data, link)
        stopped = tune(blank, found._replace(windows=windows), splits, spec.supervised,
                       folder, device_plan, run_id, link)  # fmt: skip
    checkpoint, history = _ended(folder, stopped)
    counts = {name: len(_of(windows, subjects)) for name, subjects in names.items()}
    out = _write_out(folder, spec, history, started, counts)
    checkpoint.save(out / CHECKPOINT)
    return {"stopped": stopped}


def finetune_in(
    folder: Path, spec: FinetuneSpec, data: DataPlace, device_plan: dict[str, Any], threads: int,
    base: Path | None, keep_weights: bool, *, run_id: str, link: Link,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune for one target, predict its last run, and leave the entry in `out`.

    Parameters
    ----------
    folder, spec, data, device_plan, threads, run_id, link
        As for `train_base_in`.
    base
        Entry of the base in the store; None for the control from scratch.
    keep_weights
        Whether the fine-tuned weights are part of the entry.

    Returns
    -------
    dict
        `stopped`: why the training ended.
    """
    from hbn_foundation.training.finetuned import predict

    started = _begin(threads)
    found = data.load()
    fingerprint = data_fingerprint(found.store, found.labelled, [spec.target])
    update = {"data": fingerprint, "window": data.window.model_dump()}
    spec.model_copy(update=update).check_same(spec, spec.id)
    sfreq = float(found.store.sfreq)
    n_samples = round(data.window.seconds * sfreq)
    checkpoint = None if base is None else load_base(base, spec)
    seen = [] if checkpoint is None else checkpoint.metadata["training_subjects"]
    tables = finetune_tables(spec, found.labelled, found.participants, seen, sfreq, n_samples)
    parts = Data(found.store, tables.windows, tables.participants)
    if checkpoint is None:
        assert spec.encoder is not None
        train = [f"{spec.target}+{TRAIN}"]
        checkpoint = untrained(parts, tables.windows, train, spec.encoder, data, link)
    changes: dict[str, Any] = {"seed": spec.seed_finetune}
    if spec.mode == SCRATCH:
        changes["start"] = "from_scratch"
    trainer = FineTuningParams.model_validate({**spec.tuning.trainer.model_dump(), **changes})
    tuning = Tuning.model_validate({**spec.tuning.model_dump(), "trainer": trainer.model_dump()})
    stopped = tune(checkpoint, parts, tables.splits, tuning, folder, device_plan, run_id, link)
    tuned, history = _ended(folder, stopped)
    test = _of(tables.windows, [f"{spec.target}+{TEST}"])
    link.beat("evaluation")
    answers = predict(tuned, found.store, test)
    counts = tables.windows["subject"].str.rpartition("+")[2].value_counts()
    out = _write_out(folder, spec, history, started, {
        **{name: int(counts.get(name, 0)) for name in ("train", "validation", "test")},
        "base": int((~tables.windows["subject"].str.contains("+", regex=False)).sum()),
    }, tuned.metadata["targets"])  # fmt: skip
    _predictions(test, tables, tuning, spec.target, answers).to_parquet(
        out / PREDICTIONS, index=False
    )
    if keep_weights:
        tuned.save(out / CHECKPOINT)
    return {"stopped": stopped}


def tune(
    checkpoint: Checkpoint, data: Data, splits: pd.DataFrame, tuning: Tuning, folder: Path,
    device_plan: dict[str, Any], run_id: str, link: Link,
) -> str:  # fmt: skip
    """Call the fine-tuning; return why it ended."""
    from hbn_foundation.training.finetune import FineTuningJob

    dataset = EEGDataset(data.store, data.windows, splits, data.participants)
    recipe = FineTuningRecipe(**dict(tuning))
    job = FineTuningJob(dataset, recipe, device_plan, checkpoint)
    return str(job.run_in(folder, run_id=run_id, link=link)["stopped"])


def load_base(entry: Path, spec: FinetuneSpec) -> Checkpoint:
    """Load a base from its entry, and make sure that it is the one asked for.

    Raises
    ------
    UserError
        When it is missing, another one, or has seen the target.
    """
    from hbn_foundation.training.checkpoint import Checkpoint

    if not (entry / SPEC).is_file():
        raise UserError(f"{spec.id}: {base_not_found(str(spec.base_hash), entry.parents[1])}")
    base = BaseSpec.model_validate(json.loads((entry / SPEC).read_text()))
    base.check_hash(str(spec.base_hash), f"{spec.id}: {entry / SPEC}")
    if spec.target in base.subjects:
        raise UserError(f"{spec.id}: its base {base.hash} has seen the target {spec.target}")
    return Checkpoint.load(entry / CHECKPOINT)


def untrained(
    data: Data, windows: pd.DataFrame, subjects: Any, encoder: EncoderParams, place: DataPlace,
    link: Link,
) -> Checkpoint:  # fmt: skip
    """Make a checkpoint of random weights whose normalisation is fitted on some subjects.

    What begins from scratch takes the architecture and the normalisation from it, and draws its
    weights from its own seed.
    """
    import torch

    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.data import WindowsOfSubjects, WithCallback
    from hbn_foundation.training.model_building import build_encoder

    store = data.store
    n_samples = round(place.window.seconds * store.sfreq)
    model = build_encoder(encoder, store.sfreq, n_samples)
    plain = WindowsOfSubjects(store, windows, subjects, n_samples, None, 0).plain(256, 20_000)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    with torch.no_grad():
        model.fit_normalisation(WithCallback(plain, lambda: link.beat("start")), positions)
    weights = {f"encoder.{name}": value.detach() for name, value in model.state_dict().items()}
    return Checkpoint(weights, {
        "kind": "untrained",
        "run_id": None,
        "parameters": {"encoder": encoder.model_dump(mode="json"),
                       "window": place.window.model_dump(mode="json")},
        "sfreq": float(store.sfreq),
        "n_samples": n_samples,
        "channel_names": list(store.channel_names),
        "training_subjects": [],
    })  # fmt: skip


def _begin(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    return time.perf_counter()


def _ended(folder: Path, stopped: str) -> tuple[Checkpoint, pd.DataFrame]:
    from hbn_foundation.training.fitting import final_checkpoint

    if stopped.startswith("time limit"):  # its time is not in the hash: half a training is none
        raise UserError(
            f"{stopped}: not published; give it more max_training_time, it goes on from its last "
            "whole epoch"
        )
    return final_checkpoint(folder, stopped)


def _of(windows: pd.DataFrame, subjects: Any) -> pd.DataFrame:
    return windows[windows["subject"].astype(str).isin(set(subjects))].reset_index(drop=True)


def _write_out(
    folder: Path, spec: BaseSpec | FinetuneSpec, history: pd.DataFrame, started: float,
    counts: dict[str, int], targets: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write what every entry has: the full spec, metrics, environment, history."""
    from hbn_foundation.training.fitting import library_versions

    out = folder / OUT
    out.mkdir(exist_ok=True)
    seconds = time.perf_counter() - started
    trained = counts["train"] + counts.get("base", 0)
    losses = [] if history.empty else history["validation_loss"].dropna().tolist()
    metrics = {
        "windows": counts,
        "epochs": len(history),
        "seconds": seconds,
        "windows_per_second": trained * len(history) / seconds,
        "validation_loss": min(losses, default=None),
        "targets": targets,
    }
    environment = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "versions": library_versions(),
    }
    (out / SPEC).write_text(json.dumps(spec.model_dump(mode="json"), indent=1))
    (out / METRICS).write_text(json.dumps(metrics, indent=1))
    (out / ENVIRONMENT).write_text(json.dumps(environment, indent=1))
    history.to_csv(out / HISTORY, index=False)
    return out


def _predictions(
    test: pd.DataFrame, tables: Any, tuning: Tuning, target: str, answers: np.ndarray
) -> pd.DataFrame:
    """Put the answers beside the truth, one row per test window."""
    values = window_targets(
        tables.windows, tables.participants, tuning.label, [f"{target}+{TRAIN}"]
    ).values
    where = (tables.windows["subject"] == f"{target}+{TEST}").to_numpy()
    columns = [answers] if answers.ndim == 1 else list(answers.T)
    names = ["predicted"] if answers.ndim == 1 else [f"log_p_{k}" for k in range(len(columns))]
    return pd.DataFrame(
        {"recording": test["recording"], "start": test["start"], "value": values[where],
         **dict(zip(names, columns, strict=True))}
    )  # fmt: skip
