"""Directions in which subjects of a class differ are scaled down, and nothing else is."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.models.attenuation import Attenuation


def fitted(means, strength=300.0, n_directions=8, weights=None):
    module = Attenuation(means.shape[1], n_directions)
    weights = torch.full((len(means),), 1 / len(means)) if weights is None else weights
    module.fit(means, weights, strength)
    return module


def test_at_first_it_changes_nothing():
    features = torch.randn(5, 12)
    assert torch.equal(Attenuation(12, 3)(features), features)


def test_a_direction_is_scaled_by_the_share_of_variance_that_it_holds():
    direction = torch.zeros(50)
    direction[3] = 1.0
    # two groups at ±5: a variance of 25 of 50, a share of one half
    module = fitted(torch.stack([5 * direction, -5 * direction]), strength=6.0)
    features = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    scaled = module(features)
    torch.testing.assert_close(scaled[:, 3], features[:, 3] / 2)  # (1 + 6 / 2)^-½
    others = torch.arange(50) != 3
    torch.testing.assert_close(scaled[:, others], features[:, others])


def test_groups_count_by_their_share_of_the_windows():
    means = torch.diag(torch.tensor([4.0, 4.0, 0.0, 0.0]))
    module = fitted(means, 8.0, weights=torch.tensor([0.75, 0.25, 0.0, 0.0]))
    kept = module(torch.eye(4)).diagonal()
    expected = (1 + 8.0 * torch.tensor([12.0, 4.0, 0.0, 0.0]) / 4).rsqrt()
    torch.testing.assert_close(kept, expected)


def test_only_the_strongest_directions_are_kept():
    means = torch.diag(torch.tensor([1.0, 5.0, 3.0, 2.0]))
    module = fitted(means, n_directions=2)
    torch.testing.assert_close(
        module(torch.eye(4))[[0, 3]], torch.eye(4)[[0, 3]], atol=1e-6, rtol=0
    )
    assert module(torch.eye(4))[1, 1] < 0.1


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_groups=st.integers(1, 12),
    strength=st.floats(0, 1e6),
    n_directions=st.integers(1, 20),
)
def test_no_vector_grows_or_turns_round(seed, n_groups, strength, n_directions):
    random = torch.Generator().manual_seed(seed)
    module = fitted(torch.randn(n_groups, 10, generator=random), strength, n_directions)
    features = torch.randn(6, 10, generator=random)
    scaled = module(features)
    assert (scaled.norm(dim=1) <= features.norm(dim=1) * (1 + 1e-5)).all()
    assert ((scaled * features).sum(1) >= -1e-4).all()
