"""What a fine-tuning learns: one target or several, each with its outputs, loss and scores.

Targets of a window stand side by side, one number each: a class, or a standardised value, NaN
where unknown. So do the outputs of a model for them. The main target comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.config import MAIN
from hbn_foundation.models.heads import Head, Heads
from hbn_foundation.training.finetuning.losses import DistributionLoss, TargetLoss
from hbn_foundation.training.finetuning.monitors import monitors
from hbn_foundation.training.finetuning.trainer_params import RegularisationParams
from hbn_foundation.training.model_params import HeadParams

FISHER = "fisher_ratio"


def side_by_side(targets: Mapping[str, WindowTargets]) -> np.ndarray:
    """Targets of windows (N, M) float32: classes, or standardised values; NaN where unknown."""
    columns = []
    for one in targets.values():
        values = one.values.astype(np.float64)
        if one.is_regression:
            values = (values - one.mean) / (one.sd or 1.0)
        columns.append(np.where(one.known, values, np.nan))
    return np.stack(columns, 1).astype(np.float32)


class Learning(nn.Module):
    """The targets with their losses.

    Parameters
    ----------
    targets
        By name, the main one first.
    head
        Made for them.
    training
        (N, M) targets of the training windows, for the weights of classes.
    params
        Weights of classes, smoothing, which error of values.
    weights
        Of the targets' losses; those not named have 1.
    head_params
        Of the heads that are distributions.
    """

    def __init__(
        self,
        targets: Mapping[str, WindowTargets],
        head: Head | Heads,
        training: Tensor,
        params: RegularisationParams,
        weights: Mapping[str, float] | None = None,
        head_params: Mapping[str, HeadParams] | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(targets)
        self.n_classes = [None if t.is_regression else len(t.names) for t in targets.values()]
        heads = head.parts
        self.n_features = heads[MAIN].n_features
        self.sizes = [heads[name].config.n_outputs for name in self.names]
        self.weights = [(weights or {}).get(name, 1.0) for name in self.names]
        self.losses = nn.ModuleList(
            loss_of(heads[name], column, n_classes, params, (head_params or {}).get(name))
            for name, column, n_classes in zip(
                self.names, training.unbind(1), self.n_classes, strict=True
            )
        )

    @property
    def several(self) -> bool:
        """Whether there is more than the main target."""
        return len(self.names) > 1

    def labels(self, targets: Tensor) -> Any:
        """Give margin heads the classes of windows (B, M): one for each head, or the only one's."""
        found = [
            None if n_classes is None else classes(column)
            for column, n_classes in zip(targets.unbind(1), self.n_classes, strict=True)
        ]
        return found if self.several else found[0]

    def mixed_labels(self, targets: Tensor, others: Tensor, weight: float) -> Any:
        """Give margin heads the shares of the classes in mixed windows."""
        found: list[Tensor | None] = []
        for n_classes, own, other in zip(
            self.n_classes, targets.unbind(1), others.unbind(1), strict=True
        ):
            if n_classes is None:
                found.append(None)
                continue
            shares = [nn.functional.one_hot(classes(c), n_classes).float() for c in (own, other)]
            found.append(weight * shares[0] + (1 - weight) * shares[1])
        return found if self.several else found[0]

    def each(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Loss of each target over the windows (B) where it is known; 0 where it is nowhere."""
        found = {}
        parts = outputs.split(self.sizes, 1)
        for name, loss, part, column in zip(
            self.names, self.losses, parts, targets.unbind(1), strict=True
        ):
            known = ~column.isnan()
            found[name] = loss(part[known], column[known]) if known.any() else 0.0 * part.sum()
        return found

    def weights_of(self, targets: Tensor) -> Tensor:
        """By what each target's loss divides its sum over windows (B, M): (M,)."""
        found = []
        for loss, column in zip(self.losses, targets.unbind(1), strict=True):
            assert isinstance(loss, TargetLoss | DistributionLoss)
            found.append(loss.weight_of(column[~column.isnan()]))
        return torch.stack(found)

    def forward(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Weighted sum of the losses of outputs (B, K) for targets (B, M).

        Parameters
        ----------
        outputs, targets
            Of the windows.
        shares
            (M,) shares of the windows in the weights of a larger batch: such losses of its parts
            sum to that of the whole. None: the windows are all there are.
        """
        losses = self.each(outputs, targets)
        if shares is not None:
            losses = {
                name: share * loss
                for (name, loss), share in zip(losses.items(), shares, strict=True)
            }
        return self.total(losses)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the targets' losses."""
        weights = dict(zip(self.names, self.weights, strict=True))
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def scores(
        self, values: np.ndarray, outputs: np.ndarray, features: np.ndarray | None = None
    ) -> dict[str, float]:
        """Score answers: the main target's scores by their names, others' with theirs before.

        Parameters
        ----------
        values
            Targets (N, M).
        outputs
            (N, K).
        features
            (N, F) of all heads, side by side; None leaves out `fisher_ratio`.
        """
        found: dict[str, float] = {}
        places = np.cumsum([0, *self.sizes])
        for number, (name, n_classes) in enumerate(zip(self.names, self.n_classes, strict=True)):
            known = ~np.isnan(values[:, number])
            own = outputs[known, places[number] : places[number + 1]]
            true = values[known, number]
            if n_classes is None:
                own = self._answer(number, torch.as_tensor(own)).numpy()
            else:
                true = true.astype(np.int64)
            vectors = None
            if name == MAIN and features is not None:
                vectors = features[known, : self.n_features]
            before = "" if name == MAIN else f"{name}_"
            scored = monitors(true, own, vectors, n_classes)
            found |= {f"{before}{key}": value for key, value in scored.items()}
        return found

    def _answer(self, number: int, outputs: Tensor) -> Tensor:
        """Give standardised numbers (B,) of the outputs (B, K) for one target."""
        loss = self.losses[number]
        assert isinstance(loss, TargetLoss | DistributionLoss)
        return loss.answer(outputs)


def classes(column: Tensor) -> Tensor:
    """Classes (B,) int64 of targets (B,); unknown ones, which no loss counts, are the first."""
    return column.nan_to_num(0.0).long()


def loss_of(
    head: Head,
    column: Tensor,
    n_classes: int | None,
    params: RegularisationParams,
    head_params: HeadParams | None,
) -> nn.Module:
    """Make the loss of one target, given it of the training windows (N,)."""
    known = column[~column.isnan()]
    if n_classes is not None:
        return TargetLoss(params, torch.bincount(known.long(), minlength=n_classes).float())
    if head.config.kind == "distribution":
        assert head_params is not None
        return DistributionLoss(head, head_params)
    return TargetLoss(params, None)
