"""Encoder and objective under Lightning."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.progress import say
from hbn_foundation.training import seeding
from hbn_foundation.training.data import n_windows, thinned
from hbn_foundation.training.module import TrainingData, TrainingModule
from hbn_foundation.training.objectives.base import (
    Average,
    ChainedBatches,
    Objective,
    StepOutput,
    with_callback,
)
from hbn_foundation.training.optim import make_optimizer, with_schedule
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.rates import warmup_cosine
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.supervision.link import Link


class PretrainingModule(TrainingModule):
    """Encoder and objective, trained together; normalisation and targets are fitted."""

    params: TrainerParams

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        data: TrainingData,
        positions: Tensor,
        params: TrainerParams,
        link: Link,
    ) -> None:
        super().__init__(data, positions, params, link)
        self.encoder = encoder
        self.objective = objective
        self.told = False

    def configure_optimizers(self) -> Any:
        """Make one optimizer and one schedule for the whole run."""
        params = self.params
        blocks = [*self.encoder.blocks(), ("objective", self.objective)]
        groups = parameter_groups(blocks, params.learning_rate, params.weight_decay)
        total = self.data.steps_per_epoch * params.epochs
        return with_schedule(
            make_optimizer(groups, *params.of_optimizer),
            lambda _, step: warmup_cosine(step, total, params.warmup_steps, params.min_lr_ratio),
        )

    def on_fit_start(self) -> None:
        """Pass all windows to the objective once; weights and fits are loaded by now."""
        size = self.data.evaluation_batch
        windows = self.data.training.whole(size), self.data.validation.whole(size)
        batches = with_callback(ChainedBatches(*windows), partial(self.link.beat, EVALUATION))
        self.objective.begin(self.encoder, batches, self.positions)

    def micro_batches(self, batches: list[Any]) -> list[tuple[Any, Tensor]]:
        """Cut batches, or take windows out of those that must stay whole."""
        if self.objective.whole_batches:
            whole = [thinned(batch, self.data.micro_batch) for batch in batches]
            if not self.told and sum(map(n_windows, whole)) < sum(map(n_windows, batches)):
                self.told = True
                say(
                    f"batches have {n_windows(whole[0])} of {n_windows(batches[0])} windows, as "
                    "many as memory allows: the loss is of a whole batch"
                )
            batches = whole
        return super().micro_batches(batches)

    def step_output(self, batch: Any, share: Tensor) -> StepOutput:
        """Compute the objective's loss, a mean over windows of which each has as many terms."""
        found: StepOutput = self.objective(self.encoder, batch, self.positions)
        return StepOutput(share[0] * found.loss, found.size)

    def on_validation_epoch_start(self) -> None:
        """Seed the validation, so that hidden channels and masks are the same in each."""
        super().on_validation_epoch_start()
        self.validated = Average()
        self.random_state = ExitStack()
        self.random_state.enter_context(seeding.seeded(self.params.seed, seeding.VALIDATION))

    def validation_step(self, batch: Any, _: int) -> None:
        """Score a batch, beside the objective's trivial predictors."""
        self.validated.add(self.objective(self.encoder, batch, self.positions))

    def on_validation_epoch_end(self) -> None:
        """Restore the random state of the training."""
        self.random_state.close()
        super().on_validation_epoch_end()

    def score_validation(self) -> dict[str, float]:
        """Return the mean scores of all validation windows."""
        return self.validated.values()
