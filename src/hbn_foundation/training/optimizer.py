"""AdamW with every parameter in it from the first step, in groups named by block and decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

#: Last parts of the names of parameters that are not decayed although they are matrices.
WITHOUT_DECAY = ("position",)


def parameter_groups(
    blocks: Iterable[tuple[str, nn.Module]], learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split the parameters of named blocks into groups for an optimizer.

    Parameters
    ----------
    blocks
        Names and modules, from input to output; no parameter may be in two.
    learning_rate
        Peak rate of every group.
    weight_decay
        Of weight matrices; norms, biases, scales and positions have none.

    Returns
    -------
    list of dict
        `name` (`<block>/decay` or `<block>/no_decay`), `block`, `params`, `lr`, `weight_decay`;
        groups without parameters are left out.

    Raises
    ------
    ValueError
        When two blocks share a parameter.
    """
    seen: dict[int, str] = {}
    groups = []
    for block, module in blocks:
        parts: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
        for name, parameter in module.named_parameters():
            if id(parameter) in seen:
                raise ValueError(f"{block}.{name} is already in block {seen[id(parameter)]}")
            seen[id(parameter)] = block
            plain = parameter.ndim < 2 or name.split(".")[-1] in WITHOUT_DECAY
            parts["no_decay" if plain else "decay"].append(parameter)
        for kind, parameters in parts.items():
            if parameters:
                groups.append(
                    {
                        "name": f"{block}/{kind}",
                        "block": block,
                        "params": parameters,
                        "lr": learning_rate,
                        "weight_decay": weight_decay if kind == "decay" else 0.0,
                    }
                )
    return groups


def make_optimizer(
    groups: list[dict[str, Any]], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW over the groups, in the fused form, which is faster and as exact."""
    return torch.optim.AdamW(groups, betas=betas, fused=True)
