"""The training loop that pretraining and fine-tuning share: Lightning runs it.

What differs, `outcome`, `score_validation` and the optimizer, is a subclass's.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import lightning
import torch
from torch import Tensor

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say
from hbn_foundation.training import seeding
from hbn_foundation.training.data import Head, WindowsOfSubjects
from hbn_foundation.training.objectives.base import Outcome
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.scoring import Average
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.supervision.link import Link

RECORDINGS_NAMED = 3


class TrainingLoop(lightning.LightningModule):
    """Epochs of batches, seeded by epoch, with a history, and a stop where the loss is not finite.

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
        To the supervisor.
    micro_batch
        Most windows at once; their gradients are summed to those of the batch.

    Attributes
    ----------
    history
        One row per epoch.
    micro_batches
        How many make a batch.
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
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.training_windows = training
        self.validation_windows = validation
        self.register_buffer("positions", positions, persistent=False)
        self.params = params
        self.jitter = jitter
        self.link = link or Link()
        batch_size = min(params.batch_size, len(training.windows))
        most = min(micro_batch or batch_size, batch_size)
        self.micro_batch = next(n for n in range(most, 0, -1) if batch_size % n == 0)
        self.micro_batches = batch_size // self.micro_batch
        self.history: list[dict[str, Any]] = []
        self.cut_short: str | None = None
        self.partial = False
        self.ended = ""
        self.non_finite = 0
        self.skipped = 0
        self.bad_batch = -1
        self.validation_scores: dict[str, float] = {}

    @abstractmethod
    def outcome(self, batch: Any) -> Outcome:
        """Loss and scores of one batch, in training."""

    @abstractmethod
    def score_validation(self) -> dict[str, float]:
        """Scores on the validation windows, `loss` among them."""

    def monitored(self) -> float:
        """Give what the best epoch is chosen by, lower is better: the validation loss."""
        return float(self.history[-1]["validation_loss"])

    def exported(self) -> dict[str, Tensor]:
        """Give the weights and buffers that a checkpoint of the model has."""
        return {name: value.detach().cpu() for name, value in self.state_dict().items()}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.batches_per_epoch // self.params.accumulate)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        batch_size = self.micro_batch * self.micro_batches
        return len(self.training_windows.windows) // batch_size

    def train_dataloader(self) -> Iterable[Any]:
        """Batches of the current epoch; Lightning asks anew for each."""
        batches = self.training_windows.training(self.micro_batch, self.current_epoch, self.jitter)
        return Head(batches, self.batches_per_epoch * self.micro_batches)

    def val_dataloader(self) -> Iterable[Any]:
        """One empty pass: the scores are computed at its end, where the masks can be seeded."""
        return [0]

    def on_train_epoch_start(self) -> None:
        """Seed masks, augmentation and dropout by the epoch; begin to count."""
        torch.manual_seed(seeding.derive(self.params.seed, seeding.TRAINING, self.current_epoch))
        self.average = Average()
        self.skipped = 0
        self.bad_batch = -1
        self.validation_scores = {}
        self.training_seconds = 0.0
        self.epoch_started = time.monotonic()

    def training_step(self, batch: Any, batch_index: int) -> Tensor | None:
        """Loss of one batch; None, which skips it, when that is not finite."""
        outcome = self.outcome(batch)
        fault = self.link.fault_due(self.global_step + 1)
        loss = outcome.loss * float("nan") if fault and fault.kind == "nan" else outcome.loss
        if not torch.isfinite(loss):
            self._note_non_finite(batch, batch_index, float(loss.detach()))
            return None
        if batch_index // self.micro_batches != self.bad_batch:
            self.non_finite = 0
        self.average.add(outcome)
        return loss

    def _note_non_finite(self, batch: Any, batch_index: int, loss: float) -> None:
        """Count losses that are not finite, and end the training after several in a row."""
        number = batch_index // self.micro_batches
        if number == self.bad_batch:
            return  # another part of the same batch
        self.bad_batch = number
        self.non_finite += 1
        self.skipped += 1
        where = (
            f"step {self.global_step + 1} (epoch {self.current_epoch + 1}, batch {number + 1}"
            f"{self._recordings_of(batch)})"
        )
        most = self.params.max_non_finite
        if self.non_finite < most:
            say(f"{where}: the loss is {loss}, the batch is skipped; {most} in a row end training")
            return
        raise UserError(
            f"training: the loss is {loss} in {self.non_finite} batches in a row, last at {where}; "
            "the weights before are kept. Try a smaller learning_rate, and look at these recordings"
        )

    def _recordings_of(self, batch: Any) -> str:
        index = getattr(batch, "index", None)
        if index is None:
            return ""
        rows = self.training_windows.windows.iloc[index.cpu().numpy()]
        names = sorted(set(rows["recording"]))
        more = f" and {len(names) - RECORDINGS_NAMED} more" if len(names) > RECORDINGS_NAMED else ""
        return f", of {', '.join(names[:RECORDINGS_NAMED])}{more}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history with the state of training."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.history = list(checkpoint["history"])

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm here: in bf16 Lightning refuses to beside a fused optimizer.

        Its reason, gradients still scaled, holds for fp16 alone.
        """
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.params.gradient_clip)

    def validation_step(self, _: Any, __: int) -> None:
        """Score all validation windows."""
        self._stop_clock()
        self.link.beat(EVALUATION)
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
                "epoch": self.current_epoch,
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
