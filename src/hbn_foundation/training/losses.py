"""Losses and scores of the targets of a fine-tuning.

The targets of a window are the columns of an array: a class or a standardised value each, NaN where
unknown. The outputs of a model for them are columns too. The main target comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation import scores
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.config import MAIN
from hbn_foundation.models.heads import Head, Heads
from hbn_foundation.models.outputs import DistributionOutput, soft_bins
from hbn_foundation.training.finetuning_params import RegularisationParams
from hbn_foundation.training.model_params import HeadParams

FISHER = "fisher_ratio"


class TargetLoss(nn.Module):
    """Cross-entropy of classes, or the error of standardised values.

    `counts` are the training windows of each class; None for values.
    """

    weights: Tensor | None

    def __init__(self, params: RegularisationParams, counts: Tensor | None) -> None:
        super().__init__()
        self.params = params
        self.classification = counts is not None
        weights = None
        if counts is not None and params.class_weights:
            weights = counts.sum() / (len(counts) * counts.clamp_min(1))
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor, own: Tensor | None = None) -> Tensor:
        """Loss of outputs (B, K) for classes (B,), or of (B, 1) for values (B,).

        `own` weights (B,) of the windows take the place of those of the classes.
        """
        if self.classification:
            smoothing = self.params.label_smoothing if self.training else 0.0
            if own is not None:
                each = functional.cross_entropy(
                    outputs.float(), targets.long(), reduction="none", label_smoothing=smoothing
                )
                return (own * each).sum() / own.sum()
            # the outputs of a validation are on the CPU
            weights = None if self.weights is None else self.weights.to(outputs.device)
            return functional.cross_entropy(
                outputs.float(), targets.long(), weight=weights, label_smoothing=smoothing
            )
        values = self.predicted(outputs)
        if self.params.regression_loss == "mse":
            return functional.mse_loss(values, targets)
        return functional.smooth_l1_loss(values, targets)

    def weight_of(self, targets: Tensor, own: Tensor | None = None) -> Tensor:
        """Return the divisor of the loss of these targets (B,): sum of weights, or number."""
        if own is not None:
            return own.sum()
        if self.weights is None:
            return targets.new_tensor(float(len(targets)))
        return self.weights.to(targets.device)[targets.long()].sum()

    def predicted(self, outputs: Tensor) -> Tensor:
        """Standardised values (B,) of outputs (B, 1) for numbers."""
        return outputs.float().squeeze(-1)


class DistributionLoss(nn.Module):
    """Cross-entropy of a time's shares to a Gaussian around the true one, and the mean's error.

    The cross-entropy is the Kullback-Leibler divergence but for the Gaussian's own entropy, which
    no weight changes. Times beyond the window are clipped to its edge, as the output is. The
    unit of the head's label must be set.
    """

    bins: Tensor

    def __init__(self, head: Head, params: HeadParams) -> None:
        super().__init__()
        self.params = params
        assert isinstance(head.output, DistributionOutput)
        mean, sd = head.unit.tolist()
        self.spread = params.sigma / sd
        self.register_buffer("bins", (head.output.bins - mean) / sd, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits (B, bins) for standardised times (B,)."""
        bins = self.bins.to(outputs.device)
        wanted = soft_bins(targets, bins, self.spread)
        shares = -(wanted * outputs.float().log_softmax(1)).sum(1).mean()
        error = functional.mse_loss(self.predicted(outputs), targets.clamp(bins[0], bins[-1]))
        return self.params.shares_weight * shares + self.params.error_weight * error

    def weight_of(self, targets: Tensor) -> Tensor:
        """Return the divisor of the loss of these targets (B,): their number."""
        return targets.new_tensor(float(len(targets)))

    def predicted(self, outputs: Tensor) -> Tensor:
        """Standardised times (B,) of logits (B, bins): their mean."""
        shares = outputs.float().softmax(1)
        return (shares * self.bins.to(outputs.device)).sum(1)  # no product of matrices, as in bf16


def side_by_side(targets: Mapping[str, WindowTargets]) -> np.ndarray:
    """Targets of windows (N, M) float32: classes, or standardised values; NaN where unknown."""
    columns = []
    for one in targets.values():
        values = one.values.astype(np.float64)
        if one.is_regression:
            values = (values - one.mean) / (one.sd or 1.0)
        columns.append(np.where(one.known, values, np.nan))
    return np.stack(columns, 1).astype(np.float32)


class TargetLosses(nn.Module):
    """The losses of all targets.

    `training` are (N, M) targets of the training windows, for the weights of classes; `weights` are
    of the losses, by default 1; `head_params` are needed of heads that are distributions. Targets
    may have one column more: weights of the windows in the loss of the main target.
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
        self.targets = dict(targets)
        self.names = tuple(targets)
        self.n_classes = [None if t.is_regression else len(t.names) for t in targets.values()]
        heads = head.parts
        self.n_features = heads[MAIN].n_features
        self.sizes = [heads[name].config.n_outputs for name in self.names]
        self.weights = [(weights or {}).get(name, 1.0) for name in self.names]
        losses: list[nn.Module] = []
        for name, column, n_classes in zip(
            self.names, training.unbind(1)[: len(targets)], self.n_classes, strict=True
        ):
            if n_classes is not None:
                known = column[~column.isnan()].long()
                counts = torch.bincount(known, minlength=n_classes).float()
                losses.append(TargetLoss(params, counts))
            elif heads[name].config.kind == "distribution":
                losses.append(DistributionLoss(heads[name], (head_params or {})[name]))
            else:
                losses.append(TargetLoss(params, None))
        self.losses = nn.ModuleList(losses)

    def labels(self, targets: Tensor, others: Tensor | None = None, weight: float = 1.0) -> Any:
        """Return shares (B, K) of the classes for margin heads: a list where there are several.

        In mixed windows a share `weight` is of `targets` (B, M), the rest of `others`.
        """
        parts = (targets, targets if others is None else others)

        def shares(number: int, n_classes: int) -> Tensor:
            # unknown classes, which no loss counts, are 0
            columns = (part[:, number].nan_to_num(0.0).long() for part in parts)
            one, two = (functional.one_hot(column, n_classes).float() for column in columns)
            return weight * one + (1 - weight) * two

        found = [
            None if n_classes is None else shares(number, n_classes)
            for number, n_classes in enumerate(self.n_classes)
        ]
        return found if len(found) > 1 else found[0]

    def each(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Loss of each target over the windows (B) where it is known; 0 where it is nowhere."""
        found = {}
        parts = outputs.split(self.sizes, 1)
        for name, loss, part, (column, *own) in zip(
            self.names, self.losses, parts, self._columns(targets), strict=True
        ):
            known = ~column.isnan()
            of_known = (column[known], *(weights[known] for weights in own))
            found[name] = loss(part[known], *of_known) if known.any() else 0.0 * part.sum()
        return found

    def _columns(self, targets: Tensor) -> list[tuple[Tensor, ...]]:
        """Give each target's values (B,), with the weights of the windows for the main one."""
        *columns, last = targets.unbind(1)
        if len(columns) < len(self.names):
            return [(column,) for column in (*columns, last)]
        return [(columns[0], last), *((column,) for column in columns[1:])]

    def weights_of(self, targets: Tensor) -> Tensor:
        """Return the divisor of each target's loss over windows (B, M): (M,)."""
        return torch.stack(
            [
                loss.weight_of(*(part[~column.isnan()] for part in (column, *own)))  # type: ignore[operator]
                for loss, (column, *own) in zip(self.losses, self._columns(targets), strict=True)
            ]
        )

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
        self,
        values: np.ndarray,
        outputs: np.ndarray,
        features: np.ndarray | None = None,
        windows: pd.DataFrame | None = None,
    ) -> dict[str, float]:
        """Score outputs; scores of further targets have the target's name as prefix.

        Parameters
        ----------
        values
            Targets (N, M) or (N, M + 1).
        outputs
            (N, K).
        features
            (N, F) of all heads, side by side; None leaves out `fisher_ratio`.
        windows
            (N rows) with `subject` and `stratum`; without, `within_auroc` is left out.
        """
        found: dict[str, float] = {}
        parts = np.split(outputs, np.cumsum(self.sizes)[:-1], axis=1)
        for name, n_classes, loss, part, column in zip(
            self.names, self.n_classes, self.losses, parts, values.T[: len(parts)], strict=True
        ):
            known = ~np.isnan(column)
            own, true, vectors = part[known], column[known], None
            if n_classes is None:
                own = loss.predicted(torch.as_tensor(own)).numpy()  # type: ignore[operator]
            if name == MAIN and features is not None:
                vectors = features[known, : self.n_features]
            before = "" if name == MAIN else f"{name}_"
            of_known = windows[known] if name == MAIN and windows is not None else None
            scored = target_scores(true, own, vectors, n_classes, of_known)
            found |= {f"{before}{key}": value for key, value in scored.items()}
        return found


def target_scores(
    values: np.ndarray,
    outputs: np.ndarray,
    features: np.ndarray | None,
    n_classes: int | None,
    windows: pd.DataFrame | None = None,
) -> dict[str, float]:
    """Score a model's outputs for one target, by the names of `scores` except the loss.

    Parameters
    ----------
    values, outputs
        Classes (N,) and logits (N, K), or numbers (N,) and their predictions (N,) or (N, 1).
    features
        Inputs (N, D) of the head's last layer; None leaves out `fisher_ratio`.
    n_classes
        None for numbers.
    windows
        (N rows) with `subject` and `stratum`, by which classes have `within_auroc`.
    """
    if n_classes is None:
        true = np.asarray(values, dtype=np.float64)
        predicted = np.asarray(outputs, dtype=np.float64).reshape(len(true))
        return {
            "nrmse": scores.nrmse(true, predicted),
            "r": scores.pearson_r(true, predicted),
            "mae": scores.mae(true, predicted),
            "r2": scores.r2(true, predicted),
        }
    from scipy.special import log_softmax

    labels = np.asarray(values).astype(np.int64)
    logs = log_softmax(np.asarray(outputs, dtype=np.float64), axis=1)
    predicted = logs.argmax(1)
    result = {
        "f1": scores.macro_f1(labels, predicted),
        "balanced_accuracy": scores.balanced_accuracy(labels, predicted),
        "auroc": scores.auroc(labels, logs),
        "accuracy": scores.accuracy(labels, predicted),
    }
    if features is not None:
        result[FISHER] = scores.fisher_ratio(labels, features)
    if windows is not None and STRATUM in windows:
        of_windows = (windows[name].to_numpy() for name in ("subject", STRATUM))
        result[scores.WITHIN] = scores.within_auroc(labels, logs, *of_windows)
    return result
