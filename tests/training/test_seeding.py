"""Seeds differ by purpose and epoch, and leave the caller's random state alone."""

import torch

from hbn_foundation.training.seeding import TRAINING, VALIDATION, derive, seeded


def test_seeds_are_stable_and_distinct():
    seeds = {derive(s, p, e) for s in range(3) for p in (TRAINING, VALIDATION) for e in range(5)}
    assert len(seeds) == 30
    assert derive(1, TRAINING, 2) == derive(1, TRAINING, 2)


def test_the_state_outside_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    with seeded(7, TRAINING):
        inside = torch.rand(1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with seeded(7, TRAINING):
        assert torch.equal(torch.rand(1), inside)
