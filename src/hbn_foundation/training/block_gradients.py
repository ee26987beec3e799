"""How much would each block move? Relative gradient norms of all blocks, without moving any.

Gradient hooks of frozen parameters never fire, so the gradients are asked for by `autograd.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradient_scores(
    blocks: Sequence[tuple[str, nn.Module]],
    batches: Iterable[Any],
    losses_of: Callable[[Any], Iterable[Tensor]],
) -> dict[str, float]:
    """Score each block by ‖gradient‖ / ‖weights‖, averaged over some batches.

    Parameters
    ----------
    blocks
        Names and modules, frozen or not.
    batches
        A few training batches.
    losses_of
        Parts of the loss of a batch, which sum to it.

    Returns
    -------
    dict
        Score by block. Weights, gradients in `.grad`, buffers, modes, `requires_grad` and the
        random state are as before.
    """
    named = [(name, list(module.parameters())) for name, module in blocks]
    parameters = [parameter for _, part in named for parameter in part]
    modules = [module for _, block in blocks for module in block.modules()]
    before = [parameter.requires_grad for parameter in parameters]
    modes = [module.training for module in modules]
    totals = {name: 0.0 for name, _ in named}
    count = 0
    with torch.random.fork_rng():
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            for module in modules:
                module.training = False  # no dropout, and no statistics of a norm that move
            for batch in batches:
                gradients = iter(_gradients(losses_of(batch), parameters))
                for name, part in named:
                    own = [next(gradients) for _ in part]
                    totals[name] += norm(own) / max(norm(part), 1e-12)
                count += 1
        finally:
            for parameter, required in zip(parameters, before, strict=True):
                parameter.requires_grad_(required)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
    return {name: total / max(count, 1) for name, total in totals.items()}


def _gradients(losses: Iterable[Tensor], parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Sum of the losses' gradients; None of a parameter that none depends on."""
    total: list[Tensor | None] = [None] * len(parameters)
    with torch.enable_grad():
        for loss in losses:
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            total = [
                old if new is None else new if old is None else old + new
                for old, new in zip(total, found, strict=True)
            ]
    return total


def norm(tensors: Iterable[Tensor | None]) -> float:
    """Norm of all values of some tensors together, without those that are None; 0 without any."""
    squares = [tensor.detach().square().sum() for tensor in tensors if tensor is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
