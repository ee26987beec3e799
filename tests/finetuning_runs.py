"""Short fine-tuning runs for tests, and what they leave."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.finetune import FineTuningJob
from hbn_foundation.training.finetuned import predict
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.recipes import FineTuningRecipe
from runs import CPU, run_until

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


def of_split(data: tuple[Any, pd.DataFrame, pd.DataFrame], name: str) -> pd.DataFrame:
    """The windows of a split; `data` is store, windows and splits."""
    _, windows, splits = data
    subjects = splits.loc[splits["split"] == name, "subject"]
    return windows[windows["subject"].isin(subjects)].reset_index(drop=True)


def job_of(checkpoint: Any, data: tuple[Any, Any, Any], **groups: Any) -> FineTuningJob:
    """A fine-tuning; `data` is store, windows and splits."""
    return FineTuningJob(dataset_of(data), recipe_of(**groups), CPU, checkpoint)


def prepared(checkpoint: Any, data: tuple[Any, Any, Any], **groups: Any) -> FineTuningModule:
    """The module before its first step."""
    return job_of(checkpoint, data, **groups).prepare()


def tune(checkpoint: Any, data: tuple[Any, Any, Any], folder: Path, **groups: Any):
    """Fine-tune; `participants` may differ."""
    dataset = dataset_of(data, groups.pop("participants", None))
    return FineTuningJob(dataset, recipe_of(**groups), CPU, checkpoint).run(folder, "tuned")


def tune_until(checkpoint: Any, data: Any, folder: Path, last: int | None, **groups: Any):
    """Fine-tune from the newest checkpoint in the folder; killed at beat `last`."""
    return run_until(job_of(checkpoint, data, **groups), folder, last)


class Watch(lightning.Callback):
    """Notes at each step and epoch what a fine-tuning has."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []
        self.drawn: list[dict[str, float]] = []
        self.head_steps: list[float] = []
        self.objects: set[tuple[int, int]] = set()
        self.starts: list[dict[str, dict[str, torch.Tensor]]] = []
        self.trainable: list[tuple[str, ...]] = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append(states(pl_module.model))
        self.trainable.append(pl_module.model.trainable())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        groups, curve = trainer.optimizers[0].param_groups, pl_module.curve
        self.rates.append({group["block"]: group["lr"] for group in groups})
        self.drawn.append({name: curve.rate(name, trainer.global_step) for name in curve.peaks})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        self.objects.add((id(optimizer), id(trainer.lr_scheduler_configs[0].scheduler)))
        parameter = next(pl_module.model.head.parts["main"].output.parameters())
        self.head_steps.append(float(optimizer.state[parameter]["step"]))

    def on_fit_end(self, trainer, pl_module):
        self.starts.append(states(pl_module.model))


def states(model: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and buffers of each block, copied."""
    return {
        name: {key: value.detach().clone() for key, value in block.state_dict().items()}
        for name, block in model.blocks()
    }


def scripted(monkeypatch: Any, values: Iterable[float], name: str = "loss") -> None:
    """Validations with these values of a metric, whatever the model."""
    coming = iter({"loss": 0.5, name: value} for value in values)
    monkeypatch.setattr(FineTuningModule, "score_validation", lambda _: next(coming))


def gradient(module: FineTuningModule, batches: list[Any]) -> torch.Tensor:
    """Gradient of one step, as its micro-batches leave it."""
    module.zero_grad()
    for part, share in module.micro_batches(batches):
        module.step_output(part, share).loss.backward()
    found = [p.grad.flatten() for p in module.model.parameters() if p.grad is not None]
    return torch.cat(found).double()


def check_predictions(tuned: Any, data: tuple[Any, Any, Any]) -> None:
    """Weights that are exported have the accuracy in the history, in whatever batches."""
    checkpoint, history = tuned
    windows = of_split(data, "validation")
    answers = predict(checkpoint, data[0], windows)
    names = np.array(checkpoint.metadata["targets"]["names"])
    right = names[answers.argmax(1)] == windows["task"].to_numpy()
    best = history.loc[checkpoint.metadata["best_epoch"] - 1]
    assert np.isclose(right.mean(), best["accuracy"], rtol=0, atol=1e-9)
    windows = of_split(data, "test")
    together = predict(checkpoint, data[0], windows)
    alone = predict(checkpoint, data[0], windows, batch_size=1)
    some = np.arange(0, len(windows), 3)[::-1]
    few = predict(checkpoint, data[0], windows.iloc[some].reset_index(drop=True))
    np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(few, together[some], rtol=1e-6, atol=1e-5)


def watched(monkeypatch: Any) -> Watch:
    """A watch on the next fine-tuning."""
    watch = Watch()
    configured = FineTuningJob.callbacks
    monkeypatch.setattr(FineTuningJob, "callbacks", lambda job: [*configured(job), watch])
    return watch
