"""Which parameters are decayed."""

from __future__ import annotations

from torch import nn

#: Last parts of the names of parameters that are not decayed although they are matrices.
WITHOUT_DECAY = ("position",)


def takes_decay(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether a parameter is a weight matrix; norms, biases, scales, positions are not."""
    return parameter.ndim >= 2 and name.split(".")[-1] not in WITHOUT_DECAY
