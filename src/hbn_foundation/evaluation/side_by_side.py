"""Trainings of folds, one after another or in processes of their own; results are on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hbn_foundation.errors import UserError
from hbn_foundation.progress import track
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.recipes import TrainingRecipe
from hbn_foundation.training.supervision.heartbeat import read_beat
from hbn_foundation.training.supervision.run_folder import prune_unfinished

if TYPE_CHECKING:
    import pandas as pd

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.recipes import FineTuningRecipe

TRAINING = "training"  # the run's folder in a folder of its own
TRAINING_SHARE = 0.9  # of a task; then it is scored
SECONDS_OF_A_BEAT = 120.0
SHOWN = 4  # trainings whose epochs are told

Task = TypeVar("Task")
Recipe = TypeVar("Recipe", bound=TrainingRecipe)


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


def tracked(
    function: Callable[[Task], None],
    tasks: Sequence[Task],
    n_jobs: int,
    parameter: str,
    description: str,
    folders: Callable[[Task], Sequence[Path]],
) -> Iterator[Task]:
    """As `side_by_side`, showing how many are done, the epochs of those under way, the time left.

    Parameters
    ----------
    function, tasks, n_jobs, parameter
        As `side_by_side` takes them.
    description
        A few words for the tasks.
    folders
        Gives the runs' folders of a task's trainings, while those last.
    """
    under_way = Trainings({id(task): folders(task) for task in tasks})
    running = side_by_side(function, tasks, n_jobs, parameter)
    for task in track(running, description, total=len(tasks), part=under_way):
        under_way.ended(id(task))
        yield task


class Trainings:
    """How far the trainings of some tasks are, from the heartbeats in their folders."""

    def __init__(self, folders: Mapping[Any, Sequence[Path]]) -> None:
        self._folders = dict(folders)
        self._shares: dict[Path, float] = {}

    def ended(self, task: Any) -> None:
        """Count a task no more: it is done."""
        for folder in self._folders.pop(task):
            self._shares.pop(folder, None)

    def __call__(self) -> tuple[float, str]:
        """Return the share that is done, in tasks, and the epochs that are trained now."""
        done, now = 0.0, []
        for folders in self._folders.values():
            for folder in folders:
                beat = read_beat(folder)
                # that of a training which was killed is old; of one that is done there is none
                if beat is not None and beat.steps and (beat.age or 0.0) < SECONDS_OF_A_BEAT:
                    self._shares[folder] = TRAINING_SHARE * min(beat.step / beat.steps, 1.0)
                    now.append(f"epoch {beat.epoch}/{beat.epochs}")
                done += self._shares.get(folder, 0.0) / len(folders)
        more = f" and {len(now) - SHOWN} more" if len(now) > SHOWN else ""
        return done, "; ".join(now[:SHOWN]) + more


def going_on(recipe: Recipe) -> Recipe:
    """Recipe of a run that has a folder to itself, in which it goes on where it was killed."""
    trainer = recipe.trainer.model_copy(update={"resume": "auto"})
    return recipe.model_copy(update={"trainer": trainer})


def finetuned_in(
    folder: Path,
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
    *,
    supervised: bool,
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Fine-tune in a folder of its own, under supervision where that is wanted.

    Parameters
    ----------
    folder
        Where a training that was killed goes on, unless it is not supervised.
    checkpoint, dataset, recipe, device_plan
        Of `finetune`.
    supervised
        Whether there is a supervisor; else it is trained in this process.

    Returns
    -------
    tuple
        Checkpoint, history and incidents as JSON lines.
    """
    from hbn_foundation.training.finetune import finetune, finetune_supervised

    recipe = going_on(recipe)
    if not supervised:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        return *finetune(checkpoint, dataset, recipe, device_plan, folder), ""
    return finetune_supervised(checkpoint, dataset, recipe, device_plan, folder, run_id=TRAINING)


def prune_scratch(folder: Path, pattern: str, trainer: RunParams, n_jobs: int) -> None:
    """Bound the disk that unfinished trainings use: those that were trained last stay."""
    left = [path / TRAINING for path in folder.glob(pattern) if (path / TRAINING).is_dir()]
    prune_unfinished(left, max(trainer.keep_unfinished, n_jobs))
