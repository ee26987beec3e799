"""Tell from names alone whether torch holds kernels for a card; it imports nothing of torch.

NVIDIA: code for `sm_XY` runs on cards of the same major version and a minor version at least as
high; `compute_XY` is PTX, which the driver translates for any later card. A letter binds code to
one card (`a`) or to one family (`f`). AMD: code for a `gfx` target runs on that target only,
unless the target is a generic one of the same family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"
NVIDIA_TARGET = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


def runs_on_nvidia(capability: tuple[int, int], targets: Sequence[str]) -> bool:
    """Tell whether code for one of the targets (`sm_90`, `compute_80`) runs on a card.

    Parameters
    ----------
    capability
        Major and minor version of the card.
    targets
        As `torch.cuda.get_arch_list()` names them.
    """
    for target in targets:
        found = NVIDIA_TARGET.fullmatch(target)
        if found is None:
            continue
        kind, suffix = found[1], found[4]
        major, minor = int(found[2]), int(found[3])
        if suffix == "a":
            runs = capability == (major, minor)
        elif kind == "sm" or suffix == "f":
            runs = capability[0] == major and capability[1] >= minor
        else:
            runs = capability >= (major, minor)
        if runs:
            return True
    return False


def runs_on_amd(target: str, targets: Sequence[str]) -> bool:
    """Tell whether code for one of the targets runs on a card, as `gfx90a:sramecc+:xnack-`.

    Generic targets (`gfx11-generic`) are taken to hold for all names that begin like them: the
    training step that follows finds out about the few exceptions.
    """
    card = target.split(":")[0]
    for one in targets:
        name = one.split(":")[0]
        if name == card:
            return True
        family = name.removesuffix("-generic")
        if family != name and card.startswith(family.replace("-", "")):
            return True
    return False


def check_nvidia(capability: tuple[int, int], targets: Sequence[str]) -> str | None:
    """Say in one line why the card cannot be used; None where it can, or where no list is known."""
    if not targets or runs_on_nvidia(capability, targets):
        return None
    card = f"sm_{capability[0]}{capability[1]}"
    return f"the card is {card}, but this torch was built for {', '.join(targets)}"


def check_amd(
    target: str, targets: Sequence[str], environment: Mapping[str, str]
) -> tuple[str | None, list[str]]:
    """Say why an AMD card cannot be used, or None, and what to warn about.

    Parameters
    ----------
    target
        Name of the card's architecture, as ROCm reports it.
    targets
        As `torch.cuda.get_arch_list()` names them.
    environment
        Where the override of the architecture may stand. It is never set here: with it, wrong
        results and hangs are the user's own risk.
    """
    warnings = []
    if OVERRIDE in environment:
        warnings.append(
            f"{OVERRIDE}={environment[OVERRIDE]} makes the card pass for another; "
            "results may be wrong, and the GPU may hang"
        )
    if not targets or runs_on_amd(target, targets):
        return None, warnings
    card = target.split(":")[0]
    if OVERRIDE not in environment:
        warnings.append(
            f"torch has no kernels for {card}; {OVERRIDE} can make it pass for a sibling that has "
            "some, at your own risk; it is not set for you"
        )
    return f"the card is {card}, but this torch was built for {', '.join(targets)}", warnings
