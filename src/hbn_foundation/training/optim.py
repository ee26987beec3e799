"""An optimizer with every parameter in it from the first step, one schedule for its whole life."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

#: What these need cannot be given: the loss as a function, sparse gradients, matrices alone, the
#: gradient of all windows.
UNSUITED = ("lbfgs", "sparseadam", "muon", "rprop")
#: What other parameters give to an optimizer, or nothing may.
GIVEN = ("params", "lr", "betas", "weight_decay", "maximize", "differentiable")


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the class of `torch.optim` of a name, in upper or lower case.

    Raises
    ------
    ValueError
        One line, when there is none that training can use.
    """
    found = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }
    known = sorted(set(found) - {"optimizer", *UNSUITED})
    if name.lower() not in known:
        raise ValueError(f"expected an optimizer of torch.optim: {', '.join(known)}")
    return found[name.lower()]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that an optimizer takes its options, by making one of a single weight.

    Raises
    ------
    ValueError
        One line with the option and those that are taken, or what torch says of the value.
    """
    kind = optimizer_class(name)
    taken = sorted(set(inspect.signature(kind).parameters) - set(GIVEN))
    for key, value in options.items():
        if key not in taken:
            raise ValueError(
                f"{key}={value} is nothing that {kind.__name__} takes here; expected one of "
                f"{', '.join(taken)}"
            )
    try:
        kind([torch.nn.Parameter(torch.zeros(1))], **{"lr": 1e-3, **options})
    except (TypeError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise ValueError(f"{kind.__name__} refuses {dict(options)}: {told}") from None


def make_optimizer(
    groups: list[dict[str, Any]],
    betas: tuple[float, float],
    name: str = "adamw",
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Make an optimizer over groups; AdamW in the fused form, which is faster and as exact.

    `betas` are given to the optimizers that have them, `options` as they are.
    """
    kind = optimizer_class(name)
    own: dict[str, Any] = {"fused": True} if kind is torch.optim.AdamW else {}
    if "betas" in inspect.signature(kind).parameters:
        own["betas"] = betas
    return kind(groups, **{**own, **(options or {})})


def with_schedule(
    optimizer: torch.optim.Optimizer, share_of: Callable[[str, int], float]
) -> dict[str, Any]:
    """Add a schedule by step to an optimizer, as `configure_optimizers` returns both.

    `share_of` returns the share of its peak rate that a block has at a step.
    """
    shares: list[Callable[[int], float]] = [
        partial(share_of, group["block"]) for group in optimizer.param_groups
    ]
    schedule = LambdaLR(optimizer, shares)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
