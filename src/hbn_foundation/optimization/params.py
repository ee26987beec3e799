"""What can be chosen about the comparison of variants."""

from __future__ import annotations

from pydantic import Field

from hbn_foundation.params import Params
from hbn_foundation.training.variant_names import NAMES, Name


class OptimizationParams(Params):
    """Which variants are compared, how they are measured, and which may be chosen."""

    variants: tuple[Name, ...] = Field(
        NAMES, description="Variants that stand beside fp32, the model as trained."
    )
    repeats: int = Field(
        200, description="Calls of each variant for the latency, by turns; the 99th percentile "
        "needs about 200.", ge=5,
    )  # fmt: skip
    seconds: float = Field(
        40.0, description="Time for the calls with one batch size and number of threads; 20 calls "
        "of each variant are made at least.", gt=0,
    )  # fmt: skip
    batch_sizes: tuple[int, ...] = Field(
        (1, 16), description="Windows of a call; the first decides.", min_length=1
    )
    cold_start: bool = Field(
        True, description="Time and memory of a fresh process for each variant."
    )
    largest_loss: float = Field(
        0.01, description="Share of the metric that a chosen variant's interval may reach below "
        "no change.", ge=0, lt=1,
    )  # fmt: skip
    bootstraps: int = Field(
        1000, description="Resamples of the test subjects for the intervals.", ge=0
    )
    batch_size: int = Field(256, description="Windows at once over a whole recording.", ge=1)
    seed: int = Field(0, description="Seed of the resamples.", ge=0)
