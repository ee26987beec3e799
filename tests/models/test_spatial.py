"""Spatial maps depend on where the electrodes are, not on how many or in which order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.models.spatial import DIRECTIONS_10_20, SpatialComponents, VirtualElectrodes
from hbn_foundation.recordings.montage import canonical_names, template_positions

POSITIONS = torch.tensor(list(DIRECTIONS_10_20.values()))


def test_the_directions_are_where_recordings_have_their_electrodes():
    names = canonical_names(list(DIRECTIONS_10_20))
    positions = template_positions(names)
    assert names == list(DIRECTIONS_10_20)
    torch.testing.assert_close(torch.as_tensor(positions).float(), POSITIONS, atol=1e-3, rtol=0)


def test_a_dense_net_is_averaged_around_each_direction():
    names = [f"E{number}" for number in range(1, 129)]
    positions = torch.as_tensor(template_positions(names)).float()
    weights = VirtualElectrodes(40.0).weights(positions, torch.ones(1, 128, dtype=torch.bool))
    effective = 1 / weights.square().sum(-1)
    assert 1.5 < effective.min() < effective.max() < 7
    weights = VirtualElectrodes(40.0).weights(POSITIONS, torch.ones(1, 19, dtype=torch.bool))
    assert weights[0].diagonal().min() > 0.97  # at the electrodes themselves


@pytest.mark.parametrize("n_whitened", [0, 8])
def test_components_are_in_single_precision_under_autocast(n_whitened):
    """Small differences of large signals, which eight bits of a mantissa would lose."""
    torch.manual_seed(0)
    components = SpatialComponents(6, 16, 2.0, n_whitened)
    mask = torch.ones(3, 19, dtype=torch.bool)
    signals = 100 + torch.randn(3, 19, 50)
    wanted = components(signals, POSITIONS, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = components(signals, POSITIONS, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    found.sum().backward()
    assert components.mix.weight.grad is not None


@settings(max_examples=20)
@given(present=st.sets(st.integers(0, 18)), sharpness=st.floats(1, 200))
def test_weights_are_an_average_over_the_channels_present(present, sharpness):
    mask = torch.zeros(1, 19, dtype=torch.bool)
    mask[0, list(present)] = True
    weights = VirtualElectrodes(sharpness).weights(POSITIONS, mask)
    assert (weights[:, :, ~mask[0]] == 0).all()
    expected = torch.full((1, 19), float(bool(present)))  # without channels there is nothing
    torch.testing.assert_close(weights.sum(-1), expected)


def test_a_hidden_electrode_is_replaced_by_its_neighbour():
    names = list(DIRECTIONS_10_20)
    mask = torch.ones(1, 19, dtype=torch.bool)
    mask[0, names.index("Cz")] = False
    weights = VirtualElectrodes(80.0).weights(POSITIONS, mask)[0, names.index("Cz")]
    assert {names[i] for i in weights.topk(3).indices} <= {"C3", "C4", "Fz", "Pz"}


@pytest.mark.parametrize("copies", [2, 5])
@pytest.mark.parametrize("n_whitened", [0, 6])
def test_components_do_not_grow_with_the_number_of_channels(copies, n_whitened):
    components = SpatialComponents(4, 8, 2.0, n_whitened)
    signals, mask = torch.randn(3, 19, 50), torch.ones(3, 19, dtype=torch.bool)
    expected = components(signals, POSITIONS, mask)
    found = components(
        signals.repeat(1, copies, 1), POSITIONS.repeat(copies, 1), mask.repeat(1, copies)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def correlated(n=40):
    """Windows in which neighbours see nearly the same: sources of very different size."""
    random = torch.Generator().manual_seed(0)
    fields = torch.exp(4 * POSITIONS @ POSITIONS[:12].T)
    sources = torch.randn(n, 12, 200, generator=random) * torch.logspace(0, -2, 12)[:, None]
    return fields @ sources, torch.ones(n, 19, dtype=torch.bool)


def test_whitened_components_are_uncorrelated_and_of_one_size():
    torch.manual_seed(0)
    components = SpatialComponents(4, 32, 2.0, n_whitened=4)
    signals, mask = correlated()
    total = components.covariance(signals, POSITIONS, mask)
    components.fit_whitening(total / len(signals))
    found = components(signals, POSITIONS, mask).transpose(0, 1).flatten(1)
    covariance = found @ found.T / found.shape[1]
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.1, rtol=0)
    plain = SpatialComponents(4, 32, 2.0)(signals, POSITIONS, mask).transpose(0, 1).flatten(1)
    assert torch.corrcoef(plain.detach()).fill_diagonal_(0).abs().max() > 0.5


@pytest.mark.parametrize("n_whitened", [0, 5])
def test_weights_say_what_is_mixed(n_whitened):
    components = SpatialComponents(3, 8, 2.0, n_whitened)
    signals, mask = correlated(2)
    expected = components.weights(POSITIONS) @ signals / 19
    torch.testing.assert_close(components(signals, POSITIONS, mask), expected, rtol=1e-3, atol=1e-4)
