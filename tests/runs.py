"""Short trainings for tests, in this process, and what they leave."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.fitting import final_checkpoint
from hbn_foundation.training.pretrain import pretrain
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.link import Link, Orders
from hbn_foundation.training.supervision.run_folder import RunFolder

CPU = {"chosen": "cpu"}
SMALL: dict[str, Any] = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32, "warmup_steps": 2, "precision": "32"}


def pretraining_recipe(**groups: Any) -> PretrainingRecipe:
    """A small encoder, band completion and a short training, where not given otherwise."""
    given = {"trainer": SHORT, **groups}
    given["encoder"] = {**SMALL, **given.get("encoder", {})}
    return PretrainingRecipe.model_validate(given)


def run(
    store: Any,
    windows: Any,
    splits: Any,
    folder: Path,
    tokens: tuple[str, ...] = ("band", "time"),
    objective: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **encoder: Any,
):
    """Pretrain a small encoder."""
    recipe = pretraining_recipe(
        encoder={"tokens": tokens, **encoder},
        objective=objective or {"name": "masked"},
        trainer=trainer or SHORT,
    )
    dataset = EEGDataset(store, windows, splits, pd.DataFrame())
    return pretrain(dataset, recipe, CPU, folder, run_id="run")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an exception comes before it but `finally`."""


class Counted(Link):
    """Ends the process, as it were, at a given beat."""

    def __init__(self, last: int | None, resume_from=None, seconds: float = 1000.0, **orders):
        deadline = time.monotonic() + seconds
        resume_from = None if resume_from is None else str(resume_from)
        super().__init__(None, Orders("cpu", deadline, resume_from=resume_from, **orders))
        self.last, self.sections = last, []

    def beat(self, section: str, **news: Any) -> None:
        if len(self.sections) == self.last:
            raise Killed
        self.sections.append(section)


def run_until(job: Any, folder: Path, last: int | None = None, **orders: Any):
    """Train from the newest checkpoint in a folder, killed at beat `last`.

    Returns checkpoint, history and the sections that were told.
    """
    run = RunFolder(folder, {})
    run.check_best()
    link = Counted(last, run.newest()[0], **orders)
    try:
        stopped = job.run_in(run.path, run_id="run", link=link)["stopped"]
    finally:
        run.close()
    return *final_checkpoint(run.path, stopped), link.sections


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same bit by bit."""
    assert first.keys() == second.keys()
    return all(
        part.dtype == second[name].dtype
        and part.cpu().numpy().tobytes() == second[name].cpu().numpy().tobytes()
        for name, part in first.items()
    )


def check_the_same(again: Any, whole: Any, resumed: bool = False) -> None:
    """Weights, history and best epoch are those of another run, perhaps after fewer beats."""
    assert len(again[2]) < len(whole[2]) or not resumed
    assert same(again[0].weights, whole[0].weights)
    assert same_history(again[1], whole[1])
    assert again[0].metadata["best_epoch"] == whole[0].metadata["best_epoch"]


def same_history(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether the epochs are the same, but for how long they took."""
    clock = ["seconds", "windows_per_second"]
    return first.drop(columns=clock).equals(second.drop(columns=clock))
