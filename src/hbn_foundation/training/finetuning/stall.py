"""When has a metric stalled? The rule of torch's `ReduceLROnPlateau`, without torch.

Below zero torch's own relative threshold calls a worse value better; here it is a share of the
best value's size.
"""

from __future__ import annotations

import math
from typing import Any

#: A value is better when it is so by this share of the size of the best one, as in torch.
THRESHOLD = 1e-4


class Stall:
    """Counts values that are no better than the best one.

    Parameters
    ----------
    patience
        How many of them in a row are put up with.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best: float | None = None
        self.bad = 0

    def add(self, value: float, higher_is_better: bool) -> bool:
        """Take a value in; tell whether it is one more without a better one than patience has."""
        if self._better(value, higher_is_better):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            return True
        return False

    def _better(self, value: float, higher_is_better: bool) -> bool:
        if self.best is None or not math.isfinite(value):
            return math.isfinite(value)
        ahead = value - self.best if higher_is_better else self.best - value
        return ahead > THRESHOLD * abs(self.best)

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run must know."""
        return {"best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up."""
        self.best, self.bad = state["best"], int(state["bad"])
