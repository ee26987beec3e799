"""The training loop: Lightning runs it, this module says what one step is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.training import seeding
from hbn_foundation.training.data import WindowsOfSubjects
from hbn_foundation.training.objectives.base import Objective
from hbn_foundation.training.optimizer import make_optimizer, parameter_groups
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.schedule import shape
from hbn_foundation.training.scoring import Average, score_batches


class PretrainingLoop(lightning.LightningModule):
    """Encoder and objective, trained together.

    Parameters
    ----------
    encoder, objective
        With their normalisation and targets fitted.
    training, validation
        Windows of the two splits.
    positions
        (C, 3) of the channels.
    params
        The trainer's parameters.
    jitter
        Largest random shift of a training window in samples.

    Attributes
    ----------
    history
        One row per finished epoch.
    """

    positions: Tensor

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        training: WindowsOfSubjects,
        validation: WindowsOfSubjects,
        positions: Tensor,
        params: TrainerParams,
        jitter: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.training_windows = training
        self.validation_windows = validation
        self.register_buffer("positions", positions, persistent=False)
        self.params = params
        self.jitter = jitter
        self.history: list[dict[str, Any]] = []
        self.validation_scores: dict[str, float] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        batch_size = min(self.params.batch_size, len(self.training_windows.windows))
        batches = len(self.training_windows.windows) // batch_size
        return -(-batches // self.params.accumulate)

    def configure_optimizers(self) -> Any:
        """One optimizer and one schedule for the whole run."""
        params = self.params
        blocks = [*self.encoder.blocks(), ("objective", self.objective)]
        groups = parameter_groups(blocks, params.learning_rate, params.weight_decay)
        optimizer = make_optimizer(groups, params.betas)
        total = self.steps_per_epoch * params.epochs
        schedule = LambdaLR(
            optimizer, lambda step: shape(step, total, params.warmup_steps, params.floor)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def train_dataloader(self) -> Iterable[Any]:
        """Batches of the current epoch; Lightning asks anew for each."""
        return self.training_windows.training(
            self.params.batch_size, self.current_epoch, self.jitter
        )

    def val_dataloader(self) -> Iterable[Any]:
        """One empty pass: the scores are computed at its end, where the masks can be seeded."""
        return [0]

    def on_train_epoch_start(self) -> None:
        """Seed masks, augmentation and dropout by the epoch; begin to count."""
        torch.manual_seed(seeding.derive(self.params.seed, seeding.TRAINING, self.current_epoch))
        self.average = Average()
        self.validation_scores = {}
        self.training_seconds = 0.0
        self.epoch_started = time.monotonic()

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Loss of one batch."""
        outcome = self.objective(self.encoder, batch, self.positions)
        self.average.add(outcome)
        return outcome.loss

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm here: in bf16 Lightning refuses to beside a fused optimizer.

        Its reason, gradients still scaled, holds for fp16 alone.
        """
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.params.gradient_clip)

    def validation_step(self, _: Any, __: int) -> None:
        """Score all validation windows, beside the trivial predictors."""
        self._stop_clock()
        self.validation_scores = score_batches(
            self.encoder,
            self.objective,
            self.validation_windows.validation(),
            self.positions,
            self.params.seed,
        )
        self.log("validation_loss", self.validation_scores["loss"], batch_size=1)

    def close_epoch(self) -> None:
        """Add the epoch's row to the history; a callback calls it before the others look."""
        self._stop_clock()
        scores = self.average.values()
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
                "device": self.device.type,
            }
        )

    def _stop_clock(self) -> None:
        """Note how long the training steps took, once an epoch."""
        if self.training_seconds == 0.0:
            self.training_seconds = time.monotonic() - self.epoch_started
