"""Short fine-tuning runs for tests, and what they leave."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.finetune import FineTuningJob, finetune
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.fitting import final_checkpoint
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.supervision.link import Link, Orders
from hbn_foundation.training.supervision.run_folder import RunFolder

CPU = {"chosen": "cpu"}
TRAINER: dict[str, Any] = {"epochs": 4, "batch_size": 16, "precision": "32"}
PLAN: dict[str, Any] = {"strategy": "two_phase", "phase1_epochs": 2}
AGE = {"kind": "participant", "column": "age", "type": "regression"}


def participants() -> pd.DataFrame:
    """Eight subjects; their age is in years, and far from 0."""
    return pd.DataFrame({"subject": [str(i) for i in range(8)], "age": 8.5 + np.arange(8) ** 1.5})


def recipe_of(plan: Any = None, trainer: Any = None, **groups: Any) -> FineTuningRecipe:
    """All parameters, small where not given."""
    own = {"plan": {**PLAN, **(plan or {})}, "trainer": {**TRAINER, **(trainer or {})}}
    return FineTuningRecipe.model_validate({**own, **groups})


def dataset_of(data: tuple[Any, Any, Any], people: pd.DataFrame | None = None) -> EEGDataset:
    """Store, windows and splits with participants, by default eight of them."""
    return EEGDataset(*data, participants() if people is None else people)


def tune(checkpoint: Any, data: tuple[Any, Any, Any], folder: Path, **groups: Any):
    """Fine-tune; `data` is store, windows and splits."""
    dataset = dataset_of(data, groups.pop("participants", None))
    return finetune(checkpoint, dataset, recipe_of(**groups), CPU, folder, run_id="tuned")


def prepared(checkpoint: Any, data: tuple[Any, Any, Any], **groups: Any) -> FineTuningModule:
    """Return the module before its first step."""
    return FineTuningJob(dataset_of(data), recipe_of(**groups), CPU, checkpoint).prepare()


class Killed(BaseException):
    """Stands for SIGKILL."""


class Counted(Link):
    """Ends the process, as it were, at a given beat."""

    def __init__(self, last: int | None, resume_from: Path | None) -> None:
        resume = None if resume_from is None else str(resume_from)
        super().__init__(None, Orders("cpu", time.monotonic() + 1000, resume_from=resume))
        self.last, self.sections = last, []

    def beat(self, section: str, **news: Any) -> None:
        if len(self.sections) == self.last:
            raise Killed
        self.sections.append(section)


def tune_until(
    checkpoint: Any, data: tuple[Any, Any, Any], folder: Path, last: int | None, **groups: Any
):
    """Fine-tune from the newest checkpoint in the folder; killed at beat `last`."""
    run = RunFolder(folder, {})
    run.check_best()
    link = Counted(last, run.newest()[0])
    try:
        job = FineTuningJob(dataset_of(data), recipe_of(**groups), CPU, checkpoint)
        stopped = job.run_in(run.path, run_id="tuned", link=link)["stopped"]
    finally:
        run.close()
    return *final_checkpoint(run.path, stopped), link.sections


class Watch(lightning.Callback):
    """Notes at each step and epoch what a fine-tuning has; `also` is called after each epoch."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []
        self.drawn: list[dict[str, float]] = []
        self.head_steps: list[float] = []
        self.objects: set[tuple[int, int]] = set()
        self.starts: list[dict[str, dict[str, torch.Tensor]]] = []
        self.trainable: list[tuple[str, ...]] = []
        self.loop: FineTuningModule | None = None

    def on_train_start(self, trainer, loop):
        self.loop = loop

    def on_train_epoch_start(self, trainer, loop):
        self.starts.append(states(loop.model))
        self.trainable.append(loop.model.trainable())

    def on_train_batch_start(self, trainer, loop, batch, batch_idx):
        groups = trainer.optimizers[0].param_groups
        self.rates.append({group["block"]: group["lr"] for group in groups})
        self.drawn.append(
            {name: loop.curve.rate(name, trainer.global_step) for name in loop.curve.peaks}
        )

    def on_train_batch_end(self, trainer, loop, outputs, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        self.objects.add((id(optimizer), id(trainer.lr_scheduler_configs[0].scheduler)))
        parameter = loop.model.head.output.linear.weight
        self.head_steps.append(float(optimizer.state[parameter]["step"]))

    def on_fit_end(self, trainer, loop):
        self.starts.append(states(loop.model))


def states(model: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and buffers of each block, copied."""
    return {
        name: {key: value.detach().clone() for key, value in block.state_dict().items()}
        for name, block in model.blocks()
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same bit by bit."""
    assert first.keys() == second.keys()
    return all(
        torch.equal(
            part.contiguous().view(torch.uint8), second[name].contiguous().view(torch.uint8)
        )
        if part.ndim
        else bool(part == second[name])
        for name, part in first.items()
    )


def watched(monkeypatch: Any) -> Watch:
    """A watch on the next fine-tuning."""
    watch = Watch()
    configured = FineTuningModule.configure_callbacks
    monkeypatch.setattr(
        FineTuningModule, "configure_callbacks", lambda loop: [*configured(loop), watch]
    )
    return watch
