"""The loop of fine-tuning: one optimizer for life, blocks that are frozen and unfrozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from hbn_foundation.models.config import MAIN
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.scores import TRAIN, higher_is_better
from hbn_foundation.training import seeding
from hbn_foundation.training.augmentation import hide_channels, random_gain, white_noise
from hbn_foundation.training.data import Told
from hbn_foundation.training.finetuning.data import LabelledWindows
from hbn_foundation.training.finetuning.gradient_probe import gradient_scores
from hbn_foundation.training.finetuning.learning import FISHER, Learning
from hbn_foundation.training.finetuning.losses import Anchor
from hbn_foundation.training.finetuning.params import RateParams
from hbn_foundation.training.finetuning.plans import Block, Plan
from hbn_foundation.training.finetuning.rates import RateCurve, peaks
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.objectives.base import Outcome
from hbn_foundation.training.optimizer import make_optimizer
from hbn_foundation.training.supervision.heartbeat import EVALUATION
from hbn_foundation.training.training_loop import TrainingLoop
from hbn_foundation.training.training_state import largest_size


class FineTuningLoop(TrainingLoop):
    """A model on labelled windows, its blocks unfrozen by a plan, its rates drawn from one curve.

    Parameters
    ----------
    model
        Encoder and head.
    training, validation
        Labelled windows.
    positions
        (C, 3).
    params, regularisation
        How to train, and what keeps it from overfitting.
    plan
        Says which blocks to unfreeze when.
    rates
        Learning rate of each block at each step, weight decay of matrices.
    learning
        The targets with their losses.
    options
        `jitter`, `link`, as for `TrainingLoop`.
    """

    params: FineTuningParams
    training_windows: LabelledWindows
    validation_windows: LabelledWindows

    def __init__(
        self,
        model: FineTuned,
        training: LabelledWindows,
        validation: LabelledWindows,
        positions: Tensor,
        params: FineTuningParams,
        regularisation: RegularisationParams,
        *,
        plan: Plan,
        rates: RateParams,
        learning: Learning,
        **options: Any,
    ) -> None:
        super().__init__(training, validation, positions, params, **options)
        self.model = model
        self.regularisation = regularisation
        self.plan = plan
        self.rates = rates
        blocks = [Block(name, size) for name, size in model.sizes().items()]
        total = self.steps_per_epoch * params.epochs
        self.curve = RateCurve(
            rates, peaks(blocks, rates), total, self.steps_per_epoch, trainable=plan.start()
        )
        self.learning = learning
        self.anchor = Anchor(model.pretrained_parameters(), regularisation.l2_sp)
        self.average_model: AveragedModel | None = None
        if regularisation.ema_decay is not None:
            rule = partial(follow, regularisation.ema_decay)
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

    def configure_optimizers(self) -> Any:
        """Every parameter from the first step, in groups by block and decay; one schedule."""
        groups = parameter_groups(self.model.blocks(), 0.0, self.rates.weight_decay)
        for group in groups:
            group["lr"] = self.curve.peaks[group["block"]]
        optimizer = make_optimizer(groups, self.params.betas)
        shares: list[Callable[[int], float]] = [
            partial(self.curve.share, group["block"]) for group in groups
        ]
        scheduler = {"scheduler": LambdaLR(optimizer, shares), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Unfreeze between epochs; stop when patience ends."""
        from hbn_foundation.training.finetuning.phases import Phases

        return [Phases()]

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; Lightning has put every block into training mode, which is set right."""
        super().on_train_epoch_start()
        self.training_scores = {}
        self.model.train()

    def weight_of(self, batch: Any) -> Tensor:
        """Windows of a micro-batch, and the weight (M,) that each target's loss divides by."""
        targets = self.training_windows.of(batch).to(self.positions.device)
        return torch.cat([super().weight_of(batch), self.learning.weights_of(targets)])

    def outcome(self, batch: Any, share: Tensor) -> Outcome:
        """Loss of an augmented micro-batch, and its share of the penalty."""
        rules, targets = self.regularisation, self.training_windows.of(batch)
        signals, mask = self.model.prepare(batch.signals, batch.mask)
        signals = white_noise(random_gain(signals, rules.gain), rules.noise)
        mask = hide_channels(
            mask, self.positions, rules.hide_probability, rules.hide_least, rules.hide_most
        )
        if rules.mixup:
            loss = self._mixed(signals, mask, targets, share[1:])
        else:
            labels = self.learning.labels(targets)
            margin = self.model.head.margin_share(self.global_step)
            outputs = self.model(signals, self.positions, mask, labels, margin)
            loss = self.learning(outputs, targets, share[1:])
        return Outcome(loss + share[0] * self.anchor(), len(batch))

    def _mixed(self, signals: Tensor, mask: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mixup (Zhang et al. 2018): windows are averaged in pairs, and so are their losses."""
        rate = torch.distributions.Beta(self.regularisation.mixup, self.regularisation.mixup)
        weight = float(rate.sample())
        order = torch.randperm(len(signals), device=signals.device)
        mixed = weight * signals + (1 - weight) * signals[order]
        # a class that is half of a window has half of the margin
        labels = self.learning.mixed_labels(targets, targets[order], weight)
        margin = self.model.head.margin_share(self.global_step)
        outputs = self.model(mixed, self.positions, mask & mask[order], labels, margin)
        own, other = (self.learning(outputs, part, shares) for part in (targets, targets[order]))
        return weight * own + (1 - weight) * other

    def score_validation(self) -> dict[str, float]:
        """Loss and metrics on the validation subjects, and on as many training windows."""
        scores = self._score(self.validation_windows, len(self.validation_windows.windows))
        found = self._score(self.training_windows, len(self.validation_windows.windows))
        found["plain_loss"] = found.pop("loss")
        found.pop(FISHER, None)
        self.training_scores = {f"{TRAIN}{name}": value for name, value in found.items()}
        return scores

    def _score(self, windows: LabelledWindows, most: int) -> dict[str, float]:
        """Loss and metrics of windows as they are: no augmentation, margin, smoothing, penalty."""
        values, outputs, features = self.predict_windows(windows, most)
        self.learning.eval()
        losses = self.learning.each(torch.as_tensor(outputs), torch.as_tensor(values))
        self.learning.train()
        parts = {f"{name}_loss": float(loss) for name, loss in losses.items() if name != MAIN}
        scores = self.learning.scores(values, outputs, features)
        return {"loss": float(self.learning.total(losses)), **parts, **scores}

    def predict_windows(
        self, windows: LabelledWindows, most: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets (n, M), outputs (n, K), features (n, F) of at most so many windows, in order."""
        model = self.scored_model.eval()
        parts: list[tuple[Tensor, Tensor]] = []
        batches = windows.plain(self.evaluation_batch, most)
        with torch.no_grad():
            for batch in Told(batches, lambda: self.link.beat(EVALUATION)):
                here = move_data_to_device(batch, self.positions.device)
                signals, mask = model.prepare(here.signals, here.mask)
                features = model.features(signals, self.positions, mask)
                parts.append((model.head.output(features).float(), features.float()))
        self.model.train()
        outputs, features = map(torch.cat, zip(*parts, strict=True))
        values = windows.targets[windows.sample(most).index.to_numpy(copy=True)]
        return values.numpy(), outputs.cpu().numpy(), features.cpu().numpy()

    def close_epoch(self, device: str) -> None:
        """Add the row with the metrics, the gap and what moved; the rate is the head's."""
        super().close_epoch(device)
        row = self.history[-1]
        row["learning_rate"] = self.trainer.optimizers[0].param_groups[-1]["lr"]
        row |= self.training_scores
        row["gap"] = row["validation_loss"] - row.get(f"{TRAIN}plain_loss", math.nan)
        row["trainable"] = ",".join(self.model.trainable())
        row |= {f"gradient_{name}": value for name, value in self.gradient_norms.items()}
        row |= {f"update_{name}": value for name, value in self.update_norms.items()}

    def monitored(self) -> float:
        """Give the metric that the best epoch is chosen by, so that lower is better."""
        row = self.history[-1]
        name = self.params.monitor
        value = row["validation_loss"] if name == "loss" else row.get(name, float("nan"))
        return float(-value if higher_is_better(name) else value)

    def exported(self) -> dict[str, Tensor]:
        """Give encoder and head as they are scored."""
        state = self.scored_model.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def train_also(self, blocks: Iterable[str]) -> None:
        """Train these blocks too, from now on; `follow_curve` then sets the next step's rates."""
        self.trainable = self.trainable | frozenset(blocks)
        self.model.set_trainable(self.trainable)
        self.curve.unfrozen(self.global_step, tuple(blocks))

    def freeze_blocks(self) -> None:
        """Freeze as the plan says.

        Called at the start of the fit, after the strategy has wrapped the module: DistributedData-
        Parallel never averages the gradients of a parameter that was frozen when it was wrapped,
        and one that is unfrozen later would differ from process to process without a word.
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
        return {
            kind: {name: part.detach().cpu().clone() for name, part in model.state_dict().items()}
            for kind, model in models.items()
            if model is not None
        }

    def go_back(self, remembered: dict[str, dict[str, Tensor]]) -> None:
        """Take such weights, and their average, again."""
        self.model.load_state_dict(remembered["model"])
        if self.average_model is not None:
            self.average_model.load_state_dict(remembered["average"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep plan and curve with the state of training."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["plan"] = self.plan.state_dict()
        checkpoint["curve"] = self.curve.state_dict()
        checkpoint["trainable"] = sorted(self.trainable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        super().on_load_checkpoint(checkpoint)
        self.plan.load_state_dict(checkpoint["plan"])
        self.curve.load_state_dict(checkpoint["curve"])
        self.trainable = frozenset(checkpoint["trainable"])

    def score_gradients(self, n_batches: int) -> dict[str, float]:
        """Relative gradient norms of all blocks, on a few training batches; nothing moves."""
        batches = self.training_windows.training(self.batch_size, self.current_epoch)
        chosen = [batch for batch, _ in zip(batches, range(n_batches), strict=False)]

        def losses_of(batch: Any) -> Iterable[Tensor]:
            for part, share in self.micro_batches([batch]):
                here = move_data_to_device(part, self.positions.device)
                signals, mask = self.model.prepare(here.signals, here.mask)
                outputs = self.model(signals, self.positions, mask)
                yield self.learning(outputs, self.training_windows.of(here), share[1:])

        with seeding.seeded(self.params.seed, seeding.VALIDATION, self.current_epoch):
            return gradient_scores(self.model.blocks(), chosen, losses_of)


def follow(decay: float, average: list[Tensor], now: list[Tensor], n_averaged: Any) -> None:
    """Move an average of weights towards them, in place.

    At first faster than `decay` says, so that a short run is not an average of its beginning.
    """
    rate = min(decay, (1 + float(n_averaged)) / (10 + float(n_averaged)))
    with torch.no_grad():
        for kept, new in zip(average, now, strict=True):
            kept.lerp_(new, 1 - rate) if kept.is_floating_point() else kept.copy_(new)
