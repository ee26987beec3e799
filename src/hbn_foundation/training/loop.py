"""The loop of pretraining: encoder and objective, trained together."""

from __future__ import annotations

import itertools
from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.training.data import Told, WindowsOfSubjects
from hbn_foundation.training.objectives.base import Objective, Outcome
from hbn_foundation.training.optimizer import make_optimizer
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.schedule import shape
from hbn_foundation.training.scoring import score_batches
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.training_loop import TrainingLoop


class PretrainingLoop(TrainingLoop):
    """Encoder and objective, trained together.

    Parameters
    ----------
    encoder, objective
        With their normalisation and targets fitted.
    training, validation, positions, params, jitter, options
        As for `TrainingLoop`.
    """

    params: TrainerParams

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        training: WindowsOfSubjects,
        validation: WindowsOfSubjects,
        positions: Tensor,
        params: TrainerParams,
        jitter: int,
        **options: Any,
    ) -> None:
        super().__init__(training, validation, positions, params, jitter, **options)
        self.encoder = encoder
        self.objective = objective

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

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Stop when the validation loss no longer falls."""
        patience = self.params.early_stopping_patience
        # not strict: not every epoch has a validation
        return [EarlyStopping("validation_loss", patience=patience, strict=False)]

    def on_fit_start(self) -> None:
        """Let the objective see all windows once; weights and fits are in place by now."""
        size = self.evaluation_batch
        windows = itertools.chain(
            self.training_windows.whole(size), self.validation_windows.whole(size)
        )
        batches = Told(windows, lambda: self.link.beat(EVALUATION))
        self.objective.begin(self.encoder, batches, self.positions)

    def outcome(self, batch: Any, share: Tensor) -> Outcome:
        """Loss of the objective, a mean over windows of which each has as many terms."""
        found: Outcome = self.objective(self.encoder, batch, self.positions)
        return Outcome(share[0] * found.loss, found.size)

    def score_validation(self) -> dict[str, float]:
        """Score the objective, beside its trivial predictors."""
        return score_batches(
            self.encoder,
            self.objective,
            Told(
                self.validation_windows.validation(self.evaluation_batch),
                lambda: self.link.beat(EVALUATION),
            ),
            self.positions,
            self.params.seed,
        )
