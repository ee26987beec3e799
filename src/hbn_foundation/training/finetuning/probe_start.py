"""Let linear heads begin at a probe of the encoder as it is, solved instead of learned.

A head that begins at zero sends random gradients into the encoder until it has learned something,
and its strength of regularisation is whatever its steps happen to be. One that begins at the best
linear map of the frozen features does neither (linear probing, then fine-tuning: Kumar et al.
2022). The validation windows choose the strength; of a number that each subject has one of, folds
of the training subjects may (`HeadParams.strength_by`), as a dozen validation subjects are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.models.heads import Head
from hbn_foundation.models.outputs import LinearOutput
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.probe import STRENGTHS, fit_probe
from hbn_foundation.training.ridge import fit_ridge

if TYPE_CHECKING:
    from hbn_foundation.training.finetuning.data import LabelledWindows

#: Of a class that no window of the sample has: unlikely, but still to be learned from others.
LEAST_OFFSET = -10.0


def start_from_probes(
    model: FineTuned,
    data: Mapping[str, LabelledWindows],
    batches: Mapping[str, Iterable[Any]],
    positions: Tensor,
    targets: Mapping[str, WindowTargets],
    head_params: Mapping[str, HeadParams],
    tell: Callable[[], Any] = lambda: None,
) -> dict[str, float | None]:
    """Set the linear heads that begin at a probe; other heads stay as they are.

    Parameters
    ----------
    model
        Its heads are centred already.
    data
        `train` and `validation`: their targets.
    batches
        Of some windows of each, as the encoder sees them, with their places as `index`.
    positions
        (C, 3).
    targets
        By name, in the order of the columns of `data[…].targets`.
    head_params
        Of the heads, by target.
    tell
        Called after each part of the solutions.

    Returns
    -------
    dict
        The strength that was chosen for each head; None where its windows tell nothing.
    """
    heads = {
        name: head
        for name, head in model.head.parts.items()
        if head_params[name].starts_at_probe and isinstance(head.output, LinearOutput)
    }
    if not heads:
        return {}
    features: dict[str, list[np.ndarray]] = {name: [] for name in heads}
    values, splits, subjects = [], [], []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for split in ("train", "validation"):
            for batch in batches[split]:
                tokens = model.tokens(model.encoder.inputs(batch.signals, positions, batch.mask))
                for name, head in heads.items():
                    features[name].append(head.features(tokens).float().numpy())
                values.append(data[split].of(batch).numpy())
                splits += [split] * len(batch)
                subjects.append(
                    data[split].windows["subject"].to_numpy(dtype=str)[batch.index.numpy()]
                )
    model.train(was_training)
    columns = dict(zip(targets, np.concatenate(values).T, strict=True))
    return {
        name: _solve(head, np.concatenate(features[name]), columns[name], np.array(splits),
                     np.concatenate(subjects) if head_params[name].strength_by == "folds" else None,
                     None if targets[name].is_regression else len(targets[name].names), tell)
        for name, head in heads.items()
    }  # fmt: skip


@torch.no_grad()
def _solve(
    head: Head,
    features: np.ndarray,
    values: np.ndarray,
    splits: np.ndarray,
    subjects: np.ndarray | None,
    n_classes: int | None,
    tell: Callable[[], Any] = lambda: None,
) -> float | None:
    """Set one head; return the strength, None where the sample tells nothing."""
    known = ~np.isnan(values)
    if len(np.unique(values[known & (splits == "train")])) < 2:
        return None  # nothing to solve in the sample: the head begins at zero
    features, values, splits = features[known], values[known], splits[known]
    if n_classes is None:
        groups = None if subjects is None else subjects[known]
        found: Any = fit_ridge(features, values, splits, STRENGTHS, subjects=groups, tell=tell)
    else:
        labels = values.astype(np.int64)
        found = fit_probe(features, labels, splits, n_classes, STRENGTHS, tell=tell)
    weights, offsets = found.linear_map()
    assert isinstance(head.output, LinearOutput)
    head.output.linear.weight.copy_(torch.from_numpy(weights))
    head.output.linear.bias.copy_(torch.from_numpy(np.maximum(offsets, LEAST_OFFSET)))
    return float(found.strength)
