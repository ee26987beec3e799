"""What groups of parameters become in a submission. This module is carried into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Values:
    """Plain frozen values."""

    def model_copy(self, update: Mapping[str, Any]) -> Any:
        """Return a copy with other values."""
        return replace(self, **update)
