"""The Lightning modules that pretraining and fine-tuning share: data, steps, history."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.progress import say
from hbn_foundation.signals.params import Jitter
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint_io import largest_size
from hbn_foundation.training.data import Steps, WindowsOfSubjects, cut, n_windows, steps_per_epoch
from hbn_foundation.training.objectives.base import Average, StepOutput
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.supervision.faults import OOM_EVALUATION
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.policy import EVALUATION_BATCH

RECORDINGS_NAMED = 3


class TrainingData(lightning.LightningDataModule):
    """Steps of training windows and batches of validation windows.

    A step is a list of batches of `batch_size` windows, which goes to the device in micro-batches.
    The supervisor's orders may limit `micro_batch` and `evaluation_batch`, the most windows at once
    in training and in an evaluation. `jitter` is the random shift of training windows.
    """

    def __init__(
        self,
        training: WindowsOfSubjects,
        validation: WindowsOfSubjects,
        params: RunParams,
        jitter: Jitter,
        link: Link,
    ) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.jitter = jitter
        self.per_step = params.accumulate_grad_batches
        self.steps_per_epoch = steps_per_epoch(training.n_batches(params.batch_size), params)
        self.batch_size = min(params.batch_size, len(training))
        orders, largest = link.orders, training.largest_batch(params.batch_size)
        self.micro_batch = min((orders and orders.micro_batch) or largest, largest)
        self.evaluation_batch = (orders and orders.evaluation_batch) or EVALUATION_BATCH

    def train_dataloader(self) -> Iterable[Any]:
        """Return the steps of the current epoch; Lightning calls it for each epoch."""
        epoch = cast(lightning.Trainer, self.trainer).current_epoch
        batches = self.training.training(self.batch_size, epoch, self.jitter)
        return Steps(batches, self.per_step, self.steps_per_epoch)

    def val_dataloader(self) -> Any:
        """Return the batches of all validation windows."""
        return self.validation.validation(self.evaluation_batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, _: int) -> Any:
        """Move a batch; a step, which is a list, stays where it is."""
        return batch if isinstance(batch, list) else super().transfer_batch_to_device(
            batch, device, 0
        )  # fmt: skip


class TrainingModule(lightning.LightningModule):
    """Trains in epochs that are seeded one by one; stops where losses are not finite.

    A step is taken on all windows of its batches. They go through the model in micro-batches, whose
    gradients sum to the gradient of the step's mean loss: each micro-batch counts by its share of
    the step's weight. Random numbers (augmentation, masks,
    dropout) are drawn for each micro-batch, and differ with its size. `positions` are (C, 3) of the
    channels.

    Attributes
    ----------
    history
        One row per epoch.
    cut_short
        `time_limit` or `stopped`, where the training was stopped early.
    partial
        Whether the last epoch is incomplete.
    ended
        Why the plan ended the training; empty where it did not.
    """

    positions: Tensor
    #: Metric that a plan or the choice of the best epoch looks at, where it is not the loss.
    judged = ""

    def __init__(
        self, data: TrainingData, positions: Tensor, params: RunParams, link: Link
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step's weight is needed before its first loss
        self.data = data
        self.register_buffer("positions", positions, persistent=False)
        self.params = params
        self.link = link
        self.history: list[dict[str, Any]] = []
        self.cut_short: str | None = None
        self.partial = False
        self.ended = ""
        self.non_finite = 0
        self.skipped = 0
        self.validation_scores: dict[str, float] = {}

    @abstractmethod
    def step_output(self, batch: Any, share: Tensor) -> StepOutput:
        """Compute the loss of a training micro-batch as a part of its step's loss.

        Parameters
        ----------
        batch
            On the device.
        share
            (1 + ...) shares of the weights of the whole step, as `weight_of` gives them.
        """

    @abstractmethod
    def score_validation(self) -> dict[str, float]:
        """Return the scores of the validation, `loss` among them."""

    def weight_of(self, batch: Any) -> Tensor:
        """Weights of a micro-batch in the means of a step's loss: the number of its windows."""
        return torch.tensor([float(n_windows(batch))], device=self.positions.device)

    @property
    def phase(self) -> str:
        """What is trained now, in a few words."""
        return "all blocks trained"

    @property
    def best_by(self) -> str:
        """Column of the history that chooses the best epoch."""
        return "validation_loss"

    def monitored(self) -> float:
        """Return the last value of that column, with the sign that makes lower better."""
        return float(self.history[-1][self.best_by])

    def exported(self) -> dict[str, Tensor]:
        """Return the weights and buffers that a checkpoint of the model has."""
        return {name: value.detach().cpu() for name, value in self.state_dict().items()}

    def checkpoint_sizes(self) -> tuple[int, int]:
        """Bytes of the best checkpoint, and of an epoch's with the largest state of training."""
        return largest_size(self)

    def micro_batches(self, batches: list[Any]) -> list[tuple[Any, Tensor]]:
        """Cut batches into micro-batches, each with its shares of their weights."""
        parts = [part for batch in batches for part in cut(batch, self.data.micro_batch)]
        weights = torch.stack([self.weight_of(part) for part in parts])
        shares = (weights / weights.sum(0)).nan_to_num(0.0)  # of a target that no window has
        return list(zip(parts, shares, strict=True))

    def to_device(self, batch: Any) -> Any:
        """Move a batch to the device of the training."""
        return self.data.transfer_batch_to_device(batch, self.positions.device, 0)

    def on_train_epoch_start(self) -> None:
        """Seed masks, augmentation and dropout by the epoch; reset the counters."""
        torch.manual_seed(seeding.derive(self.params.seed, seeding.TRAINING, self.current_epoch))
        self.average = Average()
        self.skipped = 0
        self.validation_scores = {}
        self.training_seconds = 0.0
        self.epoch_started = time.monotonic()

    def training_step(self, batches: list[Any], index: int) -> Tensor | None:
        """Make one optimizer step; a loss that is not finite changes no weight and returns None."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        optimizer.zero_grad()
        fault = self.link.fault_due(self.global_step + 1)
        factor = float("nan") if fault and fault.kind == "nan" else 1.0
        losses = []
        for part, share in self.micro_batches(batches):
            loss = factor * self.step_output(self.to_device(part), share).loss
            losses.append(loss.detach())
            if not torch.isfinite(loss):
                optimizer.zero_grad()
                break
            with torch.autocast(self.device.type, enabled=False):  # forward passes alone
                self.manual_backward(loss)
        whole = torch.stack(losses).sum()
        finite = bool(torch.isfinite(whole))
        if finite:
            self.non_finite = 0
            self.average.add(StepOutput(whole, sum(map(n_windows, batches))))
        else:
            self._count_non_finite(batches, index, float(whole))
        optimizer.step()
        cast(torch.optim.lr_scheduler.LRScheduler, self.lr_schedulers()).step()
        return whole if finite else None

    def _count_non_finite(self, batches: list[Any], index: int, loss: float) -> None:
        """Count losses that are not finite, and end the training after several in a row."""
        self.non_finite += 1
        self.skipped += 1
        places = torch.cat([batch.index for batch in batches]).numpy()
        names = sorted(set(self.data.training.windows["recording"].iloc[places]))
        where = (
            f"step {self.global_step + 1} (epoch {self.current_epoch + 1}, batch {index + 1}, of "
            f"{first_few(names, RECORDINGS_NAMED)})"
        )
        most = self.params.max_non_finite
        if self.non_finite < most:
            say(f"{where}: the loss is {loss}, the batch is skipped; {most} in a row end training")
            return
        raise UserError(
            f"training: the loss is {loss} in {self.non_finite} batches in a row, last at {where}; "
            "the weights before are kept. Try a smaller learning_rate, and look at these recordings"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history to the state of training."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        self.history = list(checkpoint["history"])

    def on_before_optimizer_step(self, _: Any) -> None:
        """Clip the norm of the whole step's gradient; callbacks have seen it as it was."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.params.gradient_clip)

    def on_validation_epoch_start(self) -> None:
        """Stop the clock of the training steps; trigger an ordered fault."""
        self._stop_clock()
        self.link.beat(EVALUATION)
        fault = self.link.fault_due(self.global_step)
        if fault is not None and fault.kind == OOM_EVALUATION:
            fault.inject(self.data.evaluation_batch / EVALUATION_BATCH)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Beat."""
        self.link.beat(EVALUATION)

    def on_validation_epoch_end(self) -> None:
        """Compute and log the scores."""
        self.validation_scores = self.score_validation()
        self.log("validation_loss", self.validation_scores["loss"])

    def close_epoch(self, device: str) -> None:
        """Add the epoch's row to the history; called before other callbacks read it."""
        self._stop_clock()
        scores = self.average.values() if self.average.size else {"loss": float("nan")}
        validation = dict(self.validation_scores)
        loss = validation.pop("loss", float("nan"))
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "train_loss": scores["loss"],
                "validation_loss": loss,
                **validation,
                "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
                "windows_per_second": self.average.size / max(self.training_seconds, 1e-9),
                "seconds": time.monotonic() - self.epoch_started,
                "device": device,
                "skipped_batches": self.skipped,
            }
        )

    def _stop_clock(self) -> None:
        """Record how long the training steps took, once per epoch."""
        if self.training_seconds == 0.0:
            self.training_seconds = time.monotonic() - self.epoch_started
