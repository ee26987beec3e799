"""Groups of parameters for an optimizer, by block and weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

#: Last parts of the names of parameters that are not decayed although they are matrices.
WITHOUT_DECAY = ("position",)


def parameter_groups(
    blocks: Iterable[tuple[str, nn.Module]],
    learning_rate: float,
    weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Split the parameters of named blocks into groups for an optimizer, frozen ones too.

    `weight_decay` is that of weight matrices (None: the optimizer's own); norms, biases, scales and
    positions have none. Groups have `name` (`<block>/decay` or `<block>/no_decay`), `block`,
    `params`, `lr` and `weight_decay`. A parameter in two blocks is a ValueError.
    """
    seen: dict[int, str] = {}
    groups: list[dict[str, Any]] = []
    for block, module in blocks:
        parts: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
        for name, parameter in module.named_parameters():
            if id(parameter) in seen:
                raise ValueError(f"{block}.{name} is already in block {seen[id(parameter)]}")
            seen[id(parameter)] = block
            plain = parameter.ndim < 2 or name.split(".")[-1] in WITHOUT_DECAY
            parts["no_decay" if plain else "decay"].append(parameter)
        for kind, parameters in parts.items():
            decay = weight_decay if kind == "decay" else 0.0
            of_group = {} if decay is None else {"weight_decay": decay}
            if parameters:
                name = f"{block}/{kind}"
                values = {"name": name, "block": block, "params": parameters, "lr": learning_rate}
                groups.append({**values, **of_group})
    return groups
