"""The training loop that pretraining and fine-tuning share: Lightning runs it.

What differs, `outcome`, `score_validation` and the optimizer, is a subclass's.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, cast

import lightning
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say
from hbn_foundation.training import seeding
from hbn_foundation.training.data import Steps, WindowsOfSubjects, cut, n_windows
from hbn_foundation.training.objectives.base import Outcome
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.scoring import Average
from hbn_foundation.training.supervision.faults import OOM_EVALUATION
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.policy import EVALUATION_BATCH
from hbn_foundation.training.training_state import largest_size

RECORDINGS_NAMED = 3


class TrainingLoop(lightning.LightningModule):
    """Epochs of batches, seeded by epoch, with a history, and a stop where the loss is not finite.

    A step is taken on all windows of `accumulate` batches. They go through the model in micro-
    batches, whose gradients sum to the gradient of the step's mean loss, whatever weights its
    windows have: each micro-batch counts by its share of the step's weight. Random numbers
    (augmentation, masks, dropout) are drawn for each micro-batch, and differ with its size.

    Parameters
    ----------
    training, validation
        Windows of the two splits.
    positions
        (C, 3) of the channels.
    params
        How long and how precisely.
    jitter
        Largest random shift of a training window in samples.
    link
        To the supervisor, whose orders may limit the windows at once.

    Attributes
    ----------
    history
        One row per epoch.
    batch_size
        Windows of a batch.
    micro_batch, evaluation_batch
        Most windows at once, in training and in an evaluation.
    cut_short
        `time_limit` or `stopped`, where the training is ended before its time.
    partial
        Whether the last epoch is not whole.
    ended
        Why a plan ended the training, in a few words; empty where none did.
    """

    positions: Tensor

    def __init__(
        self,
        training: WindowsOfSubjects,
        validation: WindowsOfSubjects,
        positions: Tensor,
        params: RunParams,
        jitter: int,
        link: Link | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step's weight is needed before its first loss
        self.training_windows = training
        self.validation_windows = validation
        self.register_buffer("positions", positions, persistent=False)
        self.params = params
        self.jitter = jitter
        self.link = link or Link()
        self.batch_size = min(params.batch_size, len(training.windows))
        orders = self.link.orders
        self.micro_batch = min((orders and orders.micro_batch) or self.batch_size, self.batch_size)
        self.evaluation_batch = (orders and orders.evaluation_batch) or EVALUATION_BATCH
        self.history: list[dict[str, Any]] = []
        self.cut_short: str | None = None
        self.partial = False
        self.ended = ""
        self.non_finite = 0
        self.skipped = 0
        self.validation_scores: dict[str, float] = {}

    @abstractmethod
    def outcome(self, batch: Any, share: Tensor) -> Outcome:
        """Loss of a micro-batch, in training, as a part of its step's.

        Parameters
        ----------
        batch
            On the device.
        share
            (1 + ...) shares of the weights of the whole step, as `weight_of` gives them.
        """

    def weight_of(self, batch: Any) -> Tensor:
        """Weights of a micro-batch in the means of a step's loss: the number of its windows."""
        return torch.tensor([float(n_windows(batch))], device=self.positions.device)

    @abstractmethod
    def score_validation(self) -> dict[str, float]:
        """Scores on the validation windows, `loss` among them."""

    def monitored(self) -> float:
        """Give what the best epoch is chosen by, lower is better: the validation loss."""
        return float(self.history[-1]["validation_loss"])

    def exported(self) -> dict[str, Tensor]:
        """Give the weights and buffers that a checkpoint of the model has."""
        return {name: value.detach().cpu() for name, value in self.state_dict().items()}

    def checkpoint_sizes(self) -> tuple[int, int]:
        """Bytes of the best checkpoint, and of an epoch's with the largest state of training."""
        return largest_size(self)

    def micro_batches(self, batches: list[Any]) -> list[tuple[Any, Tensor]]:
        """Cut batches into micro-batches, each with its shares of their weights."""
        parts = [part for batch in batches for part in cut(batch, self.micro_batch)]
        weights = torch.stack([self.weight_of(part) for part in parts])
        shares = (weights / weights.sum(0)).nan_to_num(0.0)  # of a target that no window has
        return list(zip(parts, shares, strict=True))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.batches_per_epoch // self.params.accumulate)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.training_windows.windows) // self.batch_size

    def train_dataloader(self) -> Iterable[Any]:
        """Give the steps of the current epoch, lists of batches; Lightning asks anew for each."""
        batches = self.training_windows.training(self.batch_size, self.current_epoch, self.jitter)
        return Steps(batches, self.params.accumulate, self.steps_per_epoch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, _: int) -> Any:
        """Leave a step where it is: its micro-batches go to the device one by one."""
        return batch

    def val_dataloader(self) -> Iterable[Any]:
        """One empty pass: the scores are computed at its end, where the masks can be seeded."""
        return [0]

    def on_train_epoch_start(self) -> None:
        """Seed masks, augmentation and dropout by the epoch; begin to count."""
        torch.manual_seed(seeding.derive(self.params.seed, seeding.TRAINING, self.current_epoch))
        self.average = Average()
        self.skipped = 0
        self.validation_scores = {}
        self.training_seconds = 0.0
        self.epoch_started = time.monotonic()

    def training_step(self, batches: list[Any], index: int) -> Tensor | None:
        """Take one optimizer step; None where a loss is not finite, which moves no weight."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        optimizer.zero_grad()
        fault = self.link.fault_due(self.global_step + 1)
        factor = float("nan") if fault and fault.kind == "nan" else 1.0
        losses = []
        for part, share in self.micro_batches(batches):
            loss = factor * self.outcome(move_data_to_device(part, self.device), share).loss
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
            self.average.add(Outcome(whole, sum(map(n_windows, batches))))
        else:
            self._note_non_finite(batches, index, float(whole))
        optimizer.step()
        cast(torch.optim.lr_scheduler.LRScheduler, self.lr_schedulers()).step()
        return whole if finite else None

    def _note_non_finite(self, batches: list[Any], index: int, loss: float) -> None:
        """Count losses that are not finite, and end the training after several in a row."""
        self.non_finite += 1
        self.skipped += 1
        where = (
            f"step {self.global_step + 1} (epoch {self.current_epoch + 1}, batch {index + 1}"
            f"{self._recordings_of(batches)})"
        )
        most = self.params.max_non_finite
        if self.non_finite < most:
            say(f"{where}: the loss is {loss}, the batch is skipped; {most} in a row end training")
            return
        raise UserError(
            f"training: the loss is {loss} in {self.non_finite} batches in a row, last at {where}; "
            "the weights before are kept. Try a smaller learning_rate, and look at these recordings"
        )

    def _recordings_of(self, batches: list[Any]) -> str:
        if not hasattr(batches[0], "index"):
            return ""
        rows = self.training_windows.windows.iloc[torch.cat([b.index for b in batches]).numpy()]
        names = sorted(set(rows["recording"]))
        more = f" and {len(names) - RECORDINGS_NAMED} more" if len(names) > RECORDINGS_NAMED else ""
        return f", of {', '.join(names[:RECORDINGS_NAMED])}{more}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history with the state of training."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.history = list(checkpoint["history"])

    def on_before_optimizer_step(self, _: Any) -> None:
        """Clip the norm of the whole step's gradient; callbacks have seen it as it was."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.params.gradient_clip)

    def validation_step(self, _: Any, __: int) -> None:
        """Score all validation windows."""
        self._stop_clock()
        self.link.beat(EVALUATION)
        fault = self.link.fault_due(self.global_step)
        if fault is not None and fault.kind == OOM_EVALUATION:
            fault.strike(self.evaluation_batch / EVALUATION_BATCH)
        self.validation_scores = self.score_validation()
        self.log("validation_loss", self.validation_scores["loss"], batch_size=1)

    def close_epoch(self, device: str) -> None:
        """Add the epoch's row to the history; a callback calls it before the others look."""
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
        """Note how long the training steps took, once an epoch."""
        if self.training_seconds == 0.0:
            self.training_seconds = time.monotonic() - self.epoch_started
