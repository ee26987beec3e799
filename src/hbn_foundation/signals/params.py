"""Parameters of the windows."""

from __future__ import annotations

from pydantic import Field

from hbn_foundation.params import Params


class WindowParams(Params):
    """How recordings are cut into windows."""

    seconds: float = Field(2.0, gt=0, description="Length of a window in seconds.")
    stride: float = Field(
        2.0,
        gt=0,
        description="Seconds from one start to the next; less than `seconds` overlaps.",
    )
