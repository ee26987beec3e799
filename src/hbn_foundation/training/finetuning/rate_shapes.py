"""Shapes of learning rates, as shares of the peak; each equals torch's scheduler of its name."""

from __future__ import annotations

import math


def cosine(step: int, start: int, total_steps: int, level: float, floor: float) -> float:
    """Fall from a level to the floor along half a cosine, as `CosineAnnealingLR`.

    Parameters
    ----------
    step, start, total_steps
        Optimizer steps from 0: now, where the fall begins, where it ends.
    level
        Share at `start`.
    floor
        Share at `total_steps`; a level below it stays what it is, so that no rate rises to it.
    """
    floor = min(floor, level)
    progress = min(1.0, max(0, step - start) / max(1, total_steps - start))
    return floor + (level - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup(step: int, steps: int) -> float:
    """Rise in equal parts to 1 at `steps`, as `LinearLR` from 1 / (steps + 1)."""
    return min(1.0, (step + 1) / (steps + 1))


def onecycle(
    step: int, total_steps: int, pct_start: float, div_factor: float, final_div: float
) -> float:
    """Rise from 1 / div_factor to 1 and fall to a `final_div`th of where it began.

    As `OneCycleLR` in two phases with cosines (Smith & Topin 2018); it has no other floor.
    """
    first, last = 1 / div_factor, 1 / div_factor / final_div
    top, end = max(0.0, pct_start * total_steps - 1), float(total_steps - 1)
    if step < top:
        return _between(first, 1.0, step / top)
    return _between(1.0, last, min(1.0, (step - top) / (end - top)) if end > top else 0.0)


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
