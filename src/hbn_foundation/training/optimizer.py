"""AdamW with every parameter in it from the first step."""

from __future__ import annotations

from typing import Any

import torch


def make_optimizer(
    groups: list[dict[str, Any]], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW over the groups, in the fused form, which is faster and as exact."""
    return torch.optim.AdamW(groups, betas=betas, fused=True)
