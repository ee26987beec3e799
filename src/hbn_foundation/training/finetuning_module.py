"""A model with heads under Lightning: one optimizer for life, blocks frozen and unfrozen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from hbn_foundation.models.config import MAIN
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.scores import TRAIN, higher_is_better
from hbn_foundation.training import seeding
from hbn_foundation.training.augmentation import augment
from hbn_foundation.training.block_gradients import gradient_scores
from hbn_foundation.training.checkpoint_io import largest_size
from hbn_foundation.training.data import LabelledWindows
from hbn_foundation.training.finetuning_params import FineTuningParams
from hbn_foundation.training.losses import FISHER, TargetLosses
from hbn_foundation.training.module import TrainingData, TrainingModule
from hbn_foundation.training.objectives.base import StepOutput
from hbn_foundation.training.optim import make_optimizer, with_schedule
from hbn_foundation.training.rates import RateCurve, peaks
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.unfreezing import Plan


class FineTuningData(TrainingData):
    """Labelled windows; a validation also scores as many training windows as they are."""

    training: LabelledWindows
    validation: LabelledWindows

    def val_dataloader(self) -> Any:
        """Return batches of all validation windows, and of a sample of the training windows."""
        count = len(self.validation)
        return [
            windows.plain(self.evaluation_batch, count)
            for windows in (self.validation, self.training)
        ]


class FineTuningModule(TrainingModule):
    """A model on labelled windows, its blocks unfrozen by a plan, its rates from one curve."""

    params: FineTuningParams
    data: FineTuningData

    def __init__(
        self,
        model: FineTuned,
        losses: TargetLosses,
        data: FineTuningData,
        positions: Tensor,
        recipe: FineTuningRecipe,
        plan: Plan,
        link: Link,
    ) -> None:
        super().__init__(data, positions, recipe.trainer, link)
        self.model = model
        self.losses = losses
        self.regularisation = recipe.regularisation.in_use
        self.judged = recipe.judged_metric
        self.keeps_head = recipe.keeps_head
        self.plan = plan
        self.rates = recipe.effective_rates
        steps, block_peaks = data.steps_per_epoch, peaks(plan.blocks, self.rates)
        self.curve = RateCurve(
            self.rates,
            block_peaks,
            steps * self.params.epochs,
            steps,
            trainable=plan.start(),
            schedules=plan.params.schedules,
        )
        self.average_model: AveragedModel | None = None
        if self.regularisation.ema_decay is not None:
            rule = partial(follow, self.regularisation.ema_decay)
            self.average_model = AveragedModel(model, multi_avg_fn=rule)
        self.trainable = plan.start()
        self.training_scores: dict[str, float] = {}
        self.gradient_norms: dict[str, float] = {}
        self.update_norms: dict[str, float] = {}

    @property
    def scored_model(self) -> FineTuned:
        """The average of the weights where one is kept, else the weights themselves."""
        if self.average_model is None:
            return self.model
        return cast(FineTuned, self.average_model.module)

    @property
    def margin_share(self) -> Any:
        """Share of the full margin at this step, of each head; a head that is kept has had it."""
        return 1.0 if self.keeps_head else self.model.head.margin_share(self.global_step)

    def configure_optimizers(self) -> Any:
        """Make one optimizer of all parameters, grouped by block and decay, and one schedule."""
        groups = parameter_groups(self.model.blocks(), 0.0, self.rates.weight_decay)
        for group in groups:
            group["lr"] = self.curve.peaks[group["block"]]
        return with_schedule(make_optimizer(groups, *self.params.of_optimizer), self.curve.share)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; frozen blocks are in evaluation mode."""
        super().on_train_epoch_start()
        self.training_scores = {}
        self.model.train()

    def weight_of(self, batch: Any) -> Tensor:
        """Windows of a micro-batch, and the weight (M,) that each target's loss divides by."""
        targets = self.data.training.of(batch).to(self.positions.device)
        return torch.cat([super().weight_of(batch), self.losses.weights_of(targets)])

    def step_output(self, batch: Any, share: Tensor) -> StepOutput:
        """Compute the loss of an augmented micro-batch."""
        rules, targets = self.regularisation, self.data.training.of(batch)
        signals, mask = self.model.prepare(batch.signals, batch.mask)
        signals, mask = augment(signals, mask, self.positions, rules)
        others, weight = targets, 1.0
        share_mixed = rules.mixup_probability if rules.mixup else 0.0
        if share_mixed == 1 or (share_mixed and torch.rand(()) < share_mixed):
            # mixup (Zhang et al. 2018): windows are averaged in pairs, and so are their losses
            weight = float(torch.distributions.Beta(rules.mixup, rules.mixup).sample())
            order = torch.randperm(len(signals), device=signals.device)
            signals = weight * signals + (1 - weight) * signals[order]
            mask, others = mask & mask[order], targets[order]
        # a class that is half of a window has half of the margin
        labels = self.losses.labels(targets, others, weight)
        outputs = self.model(signals, self.positions, mask, labels, self.margin_share, batch.places)
        loss = self.losses(outputs, targets, share[1:])
        if others is not targets:
            loss = weight * loss + (1 - weight) * self.losses(outputs, others, share[1:])
        return StepOutput(loss, len(batch))

    def on_validation_epoch_start(self) -> None:
        """Start a new collection of outputs."""
        super().on_validation_epoch_start()
        self.collected: list[list[tuple[Tensor, Tensor]]] = [[], []]

    def validation_step(self, batch: Any, _: int, dataloader_idx: int) -> None:
        """Collect outputs and features of windows, without augmentation or margin."""
        model = self.scored_model
        signals, mask = model.prepare(batch.signals, batch.mask)
        features = model.features(signals, self.positions, mask, batch.places)
        outputs = model.head.output(features).float()
        self.collected[dataloader_idx].append((outputs, features.float()))

    def score_validation(self) -> dict[str, float]:
        """Return loss and metrics on the validation subjects; keep those on training windows."""
        scores = self._score(self.data.validation, self.collected[0])
        found = self._score(self.data.training, self.collected[1])
        found["plain_loss"] = found.pop("loss")
        found.pop(FISHER, None)
        self.training_scores = {f"{TRAIN}{name}": value for name, value in found.items()}
        return scores

    def _score(
        self, windows: LabelledWindows, collected: list[tuple[Tensor, Tensor]]
    ) -> dict[str, float]:
        """Loss and metrics of windows, without smoothing and penalty."""
        outputs, features = (torch.cat(part).cpu() for part in zip(*collected, strict=True))
        sample = windows.sample(len(self.data.validation)).index.to_numpy(copy=True)
        values = windows.targets[sample]
        losses = self.losses.each(outputs, values)
        parts = {f"{name}_loss": float(loss) for name, loss in losses.items() if name != MAIN}
        scores = self.losses.scores(
            values.numpy(), outputs.numpy(), features.numpy(), windows.windows.loc[sample]
        )
        return {"loss": float(self.losses.total(losses)), **parts, **scores}

    def close_epoch(self, device: str) -> None:
        """Add the row with the metrics, the gap and what moved; the rate is the head's."""
        super().close_epoch(device)
        row = self.history[-1]
        row["learning_rate"] = self.trainer.optimizers[0].param_groups[-1]["lr"]
        row |= self.training_scores
        row["gap"] = row["validation_loss"] - row.get(f"{TRAIN}plain_loss", math.nan)
        row["phase"] = self.plan.phase
        row["trainable"] = ",".join(self.model.trainable())
        row |= {f"gradient_{name}": value for name, value in self.gradient_norms.items()}
        row |= {f"update_{name}": value for name, value in self.update_norms.items()}

    @property
    def phase(self) -> str:
        """The number of the phase, and the blocks trained in it."""
        return f"{self.plan.phase}, trained: {', '.join(self.model.trainable())}"

    @property
    def best_by(self) -> str:
        """Column of the history that chooses the best epoch."""
        name = self.params.monitor
        return "validation_loss" if name == "loss" else name

    def monitored(self) -> float:
        """Return the last value of that column, with the sign that makes lower better."""
        value = self.history[-1].get(self.best_by, math.nan)
        return float(-value if higher_is_better(self.params.monitor) else value)

    def exported(self) -> dict[str, Tensor]:
        """Return encoder and head as they are scored."""
        return copied(self.scored_model)

    def train_also(self, blocks: Iterable[str]) -> str:
        """Train these blocks too, from now on; return what happened to the schedule.

        `follow_curve` then sets the next step's rates.
        """
        self.trainable = self.trainable | frozenset(blocks)
        self.model.set_trainable(self.trainable)
        return self.curve.unfrozen(self.global_step, tuple(blocks))

    def freeze_blocks(self) -> None:
        """Freeze as the plan says.

        Called at the start of the fit, after the strategy has wrapped the module: DistributedData-
        Parallel never averages the gradients of a parameter that was frozen when it was wrapped,
        and one that is unfrozen later would silently differ between processes.
        """
        self.model.set_trainable(self.trainable)
        if self.average_model is not None:
            self.average_model.requires_grad_(False)

    def follow_curve(self) -> None:
        """Set the next step's rates, which the schedule has set by the curve as it was."""
        self.curve.set_rates(self.trainer.optimizers[0].param_groups, self.global_step)

    def checkpoint_sizes(self) -> tuple[int, int]:
        """Count the average of the weights, and the best of a phase, beside the model."""
        found = self.remembered()
        average = found.get("average", {}).values()
        best = [part for model in found.values() for part in model.values()]
        return largest_size(self.model, [*average, *best])

    def remembered(self) -> dict[str, dict[str, Tensor]]:
        """Copy the weights, and their average where one is kept."""
        models = {"model": self.model, "average": self.average_model}
        return {kind: copied(model) for kind, model in models.items() if model is not None}

    def restore(self, remembered: dict[str, dict[str, Tensor]]) -> None:
        """Load weights that `remembered` returned, and their average."""
        self.model.load_state_dict(remembered["model"])
        if self.average_model is not None:
            self.average_model.load_state_dict(remembered["average"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plan and curve to the state of training."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["plan"] = self.plan.state_dict()
        checkpoint["curve"] = self.curve.state_dict()
        checkpoint["trainable"] = sorted(self.trainable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        super().on_load_checkpoint(checkpoint)
        self.plan.load_state_dict(checkpoint["plan"])
        self.curve.load_state_dict(checkpoint["curve"])
        self.trainable = frozenset(checkpoint["trainable"])

    def score_gradients(self, n_batches: int) -> dict[str, float]:
        """Relative gradient norms of all blocks, on a few training batches; nothing moves."""
        batches = self.data.training.training(self.data.batch_size, self.current_epoch)
        chosen = [batch for batch, _ in zip(batches, range(n_batches), strict=False)]

        def losses_of(batch: Any) -> Iterable[Tensor]:
            for part, share in self.micro_batches([batch]):
                here = self.to_device(part)
                signals, mask = self.model.prepare(here.signals, here.mask)
                outputs = self.model(signals, self.positions, mask, places=here.places)
                yield self.losses(outputs, self.data.training.of(here), share[1:])

        with seeding.seeded(self.params.seed, seeding.VALIDATION, self.current_epoch):
            return gradient_scores(self.model.blocks(), chosen, losses_of)


def copied(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copy the weights of a model to the CPU."""
    return {name: part.detach().cpu().clone() for name, part in model.state_dict().items()}


def follow(decay: float, average: list[Tensor], now: list[Tensor], n_averaged: Any) -> None:
    """Move an average of weights towards them, in place.

    Faster than `decay` at first, so that the average of a short run is not dominated by its start.
    """
    rate = min(decay, (1 + float(n_averaged)) / (10 + float(n_averaged)))
    with torch.no_grad():
        for kept, new in zip(average, now, strict=True):
            kept.lerp_(new, 1 - rate) if kept.is_floating_point() else kept.copy_(new)
