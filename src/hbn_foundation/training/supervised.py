"""Training that survives: the parent's side, from the run's folder to its checkpoint.

Imports no torch before the training is over.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.training.recipes import PretrainingRecipe, TrainingRecipe
from hbn_foundation.training.supervision.faults import Fault
from hbn_foundation.training.supervision.incidents import Incident, as_lines, read_incidents
from hbn_foundation.training.supervision.link import TIME_IS_UP
from hbn_foundation.training.supervision.run_folder import mark_done, open_run, prune
from hbn_foundation.training.supervision.supervisor import Supervisor, Work

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

TARGET = "hbn_foundation.training.pretraining:pretrain_in"
ENDED = f"{TIME_IS_UP}, the supervisor ended it"


def pretrain_supervised(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    run_id: str,
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Pretrain under supervision.

    Parameters
    ----------
    dataset, recipe, device_plan
        As for `pretraining.pretrain`.
    work_dir, run_id
        As for `train_supervised`.

    Returns
    -------
    tuple
        As of `train_supervised`.
    """
    arguments = {"dataset": dataset, "recipe": recipe, "device_plan": device_plan}
    identity = identify(dataset, recipe)
    return train_supervised(TARGET, arguments, identity, work_dir, run_id=run_id)


def train_supervised(
    target: str, arguments: dict[str, Any], identity: dict[str, Any], work_dir: Path, *, run_id: str
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Train in a supervised child interpreter, going on where an earlier run died.

    Parameters
    ----------
    target, arguments
        What the child calls, as `module:function`; it is also given `folder`, `run_id` and `link`,
        and returns a dictionary with `stopped`. Among the arguments are `recipe` (budget, batch,
        whether to resume, limits of silence, a fault to order) and `device_plan`.
    identity
        All that the weights depend on, as JSON.
    work_dir
        Folder of all runs.
    run_id
        Name of a new run's folder.

    Returns
    -------
    Checkpoint
        The best weights; `incidents` and `epochs_by_device` are in its metadata. Call its
        `when_stored` once it is stored for good; until then the same call would take it from the
        run's folder again.
    pandas.DataFrame
        One row per epoch.
    str
        The incidents as JSON lines; empty without any.

    Raises
    ------
    UserError
        What the child raised, or that nothing more can be tried.
    TrainingStopped
        After SIGINT or SIGTERM.
    """
    from hbn_foundation.training.fitting import final_checkpoint

    recipe: TrainingRecipe = arguments["recipe"]
    trainer = recipe.trainer
    run = open_run(Path(work_dir), run_id, identity, trainer.resume)
    try:
        prune(Path(work_dir), run.path, trainer.keep_unfinished)
        run.check_best()
        work = Work(
            target,
            {**arguments, "folder": run.path, "run_id": run.path.name},
            device=arguments["device_plan"]["chosen"],
            batch_size=trainer.batch_size,
            seconds=trainer.max_training_time,
            fault=Fault.parse(recipe.fault),
        )
        result = Supervisor(run, work, recipe.supervision).run()
        stopped = result.get("stopped", ENDED)
        checkpoint, history = final_checkpoint(run.path, stopped)
        if not stopped.startswith(TIME_IS_UP):
            checkpoint.when_stored = partial(mark_done, run.path)
    finally:
        run.close()
    incidents = read_incidents(run.path)
    checkpoint.metadata |= training_record(history, incidents)
    prune(Path(work_dir), run.path, trainer.keep_unfinished)
    return checkpoint, history, as_lines(incidents)


def identify(dataset: EEGDataset, recipe: PretrainingRecipe) -> dict[str, Any]:
    """Name all that the weights of a pretraining depend on: parameters, and digests of the data."""
    labelled = recipe.objective.name == "task_classification"
    return {
        **recipe.identity(),
        "window": dataset.window.model_dump(mode="json"),
        "data": identify_data(dataset, with_participants=labelled),
    }


def identify_data(dataset: EEGDataset, *, with_participants: bool) -> dict[str, Any]:
    """Digest the data that a training depends on."""
    splits = dataset.splits[["subject", "split"]].sort_values("subject")
    return {
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows[["recording", "start"]]),
        "splits": digest(splits),
        "participants": digest(dataset.participants) if with_participants else None,
    }


def digest(table: pd.DataFrame) -> str:
    """Hash a table by its columns and values, not by its index."""
    values = pd.util.hash_pandas_object(table.astype(str), index=False).to_numpy()
    names = json.dumps(table.columns.tolist()).encode()
    return hashlib.blake2b(names + values.tobytes(), digest_size=8).hexdigest()


def training_record(history: pd.DataFrame, incidents: list[Incident]) -> dict[str, Any]:
    """Say which epochs ran on which device, and what happened on each."""
    epochs: dict[str, list[int]] = {one.device: [] for one in incidents if one.device}
    for epoch, device in zip(history["epoch"], history["device"], strict=True):
        epochs.setdefault(device, []).append(int(epoch))
    happened = [
        {key: getattr(incident, key) for key in ("kind", "device", "epoch", "step", "action")}
        for incident in incidents
    ]
    return {"epochs_by_device": epochs, "incidents": happened}
