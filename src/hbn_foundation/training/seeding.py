"""Random numbers that depend on the seed, the purpose and the epoch, never on what went before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

WEIGHTS, TRAINING, VALIDATION, CHOICE = range(4)


def derive(seed: int, purpose: int, epoch: int = 0) -> int:
    """Derive a 64-bit seed from the run's seed, a purpose of this module and an epoch."""
    state = np.random.SeedSequence([seed, purpose, epoch]).generate_state(1, np.uint64)
    return int(state[0])


@contextmanager
def seeded(seed: int, purpose: int, epoch: int = 0) -> Iterator[None]:
    """Seed torch inside the block, and leave its random state outside as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, purpose, epoch))
        yield
