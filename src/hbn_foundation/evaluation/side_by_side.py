"""Trainings of folds, one after another or in processes of their own; results are on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hbn_foundation.errors import UserError
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.run_folder import prune_unfinished

if TYPE_CHECKING:
    import pandas as pd

    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuning.extras import Extras
    from hbn_foundation.training.supervision.params import SupervisionParams

TRAINING = "training"  # the run's folder in a folder of its own

Task = TypeVar("Task")
Trainer = TypeVar("Trainer", bound=RunParams)


def side_by_side(
    function: Callable[[Task], None], tasks: Sequence[Task], n_jobs: int, parameter: str
) -> Iterator[Task]:
    """Call a function for each task, yielding each as it ends; what it gives is on disk.

    Parameters
    ----------
    function
        Of a module, so that workers can import it.
    tasks
        What it is called with.
    n_jobs
        Worker processes; below 2 everything runs in this one.
    parameter
        Name of `n_jobs`, for the message.

    Raises
    ------
    UserError
        When a worker was killed twice by the same task.
    """
    n_jobs = min(n_jobs, len(tasks))
    if n_jobs < 2:
        for task in tasks:
            function(task)
            yield task
        return
    for task, result in run_parallel(function, tasks, n_jobs):
        if isinstance(result, WorkerKilled):
            raise UserError(f"{parameter}={n_jobs}: a run failed twice, {result}; try 1")
        yield task


def going_on(trainer: Trainer) -> Trainer:
    """Trainer of a run that has a folder to itself, in which it goes on where it was killed."""
    return trainer.model_copy(update={"resume": "auto"})


def finetuned_in(
    folder: Path, *arguments: Any, extras: Extras, supervision: SupervisionParams | None
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Fine-tune in a folder of its own, under supervision where that is wanted.

    Parameters
    ----------
    folder
        Where a training that was killed goes on, unless it is not supervised.
    arguments
        Of `finetune`, as far as its device plan.
    extras
        Of `finetune`.
    supervision
        How long each part may be silent; None trains in this process.

    Returns
    -------
    tuple
        Checkpoint, history and incidents as JSON lines.
    """
    from hbn_foundation.training.finetuning.finetuning import finetune
    from hbn_foundation.training.finetuning.supervised import finetune_supervised

    given: Any = (*arguments, folder)
    if supervision is None:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        return *finetune(*given, extras=extras), ""
    return finetune_supervised(*given, run_id=TRAINING, supervision=supervision, extras=extras)


def prune_scratch(folder: Path, pattern: str, trainer: RunParams, n_jobs: int) -> None:
    """Bound the disk that unfinished trainings use: those that were trained last stay."""
    left = [path / TRAINING for path in folder.glob(pattern) if (path / TRAINING).is_dir()]
    prune_unfinished(left, max(trainer.keep_unfinished, n_jobs))
