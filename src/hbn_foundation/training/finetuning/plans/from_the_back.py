"""Which blocks make up a share of the encoder, counted from the back."""

from __future__ import annotations

from collections.abc import Sequence

from hbn_foundation.training.finetuning.plans.base import Block


def from_the_back(backbone: Sequence[Block], share: float, by: str = "blocks") -> tuple[str, ...]:
    """Give the fewest last blocks that make up at least a share.

    Parameters
    ----------
    backbone
        Blocks in forward order, without the head.
    share
        Above 0, at most 1.
    by
        `blocks` or `parameters`: what the share is of.

    Returns
    -------
    tuple of str
        Names, the last block first.
    """
    sizes = [block.n_parameters if by == "parameters" else 1 for block in backbone]
    wanted = share * sum(sizes) * (1 - 1e-9)
    names: list[str] = []
    found = 0
    for block, size in zip(reversed(backbone), reversed(sizes), strict=True):
        if names and found >= wanted:
            break
        names.append(block.name)
        found += size
    return tuple(names)
