"""AdamW with every parameter in it from the first step, and one schedule for its whole life."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR


def make_optimizer(
    groups: list[dict[str, Any]], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW over the groups, in the fused form, which is faster and as exact."""
    return torch.optim.AdamW(groups, betas=betas, fused=True)


def with_schedule(
    optimizer: torch.optim.Optimizer, share_of: Callable[[str, int], float]
) -> dict[str, Any]:
    """Add a schedule by step to an optimizer, as `configure_optimizers` returns both.

    `share_of` returns the share of its peak rate that a block has at a step.
    """
    shares: list[Callable[[int], float]] = [
        partial(share_of, group["block"]) for group in optimizer.param_groups
    ]
    schedule = LambdaLR(optimizer, shares)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
