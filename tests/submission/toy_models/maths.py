"""Functions whose names other modules use for other things."""

import math

from torch import Tensor

FLOOR = 1e-6  # µV², below any amplifier's


# A comment that belongs to the function.
def log(values: Tensor) -> Tensor:
    return values.clamp_min(FLOOR).log()


def never_needed() -> float:
    return math.pi
