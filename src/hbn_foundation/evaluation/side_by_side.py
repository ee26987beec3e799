"""Trainings of folds, one after another or in processes of their own; results are on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from hbn_foundation.errors import UserError
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.run_folder import prune_unfinished

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


def prune_scratch(folder: Path, pattern: str, trainer: RunParams, n_jobs: int) -> None:
    """Bound the disk that unfinished trainings use: those that were trained last stay."""
    left = [path / TRAINING for path in folder.glob(pattern) if (path / TRAINING).is_dir()]
    prune_unfinished(left, max(trainer.keep_unfinished, n_jobs))
