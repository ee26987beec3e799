"""The learning rate as a pure function of the step, so that it can be drawn before training."""

from __future__ import annotations

import math


def shape(step: int, total_steps: int, warmup_steps: int, floor: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then a cosine to the floor.

    Parameters
    ----------
    step
        Optimizer step, from 0.
    total_steps
        Steps in the whole run.
    warmup_steps
        Steps until the peak; at most a third of the run.
    floor
        Share at the end.
    """
    warmup = min(warmup_steps, total_steps // 3)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
