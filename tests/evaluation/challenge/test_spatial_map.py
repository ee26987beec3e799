"""Maps show where the signal is that a model uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hbn_foundation.evaluation.challenge.spatial import spatial_maps
from hbn_foundation.evaluation.challenge.spatial_figure import spatial_figure
from hbn_foundation.models.spatial import DIRECTIONS_10_20, SpatialComponents

NAMES = list(DIRECTIONS_10_20)
POSITIONS = np.array(list(DIRECTIONS_10_20.values()))
PLACES = torch.tensor(POSITIONS, dtype=torch.float32)


@pytest.fixture
def windows() -> torch.Tensor:
    """Noise, and at Pz and beside it a strong source."""
    torch.manual_seed(0)
    windows = torch.randn(24, 19, 100)
    source = 6 * torch.randn(24, 100)
    for name, share in (("Pz", 1.0), ("P3", 0.5), ("P4", 0.5)):
        windows[:, NAMES.index(name)] += share * source
    return windows


def test_hiding_the_channels_that_are_used_moves_the_prediction(windows):
    place = NAMES.index("O1")
    maps = spatial_maps(torch.nn.Identity(), lambda x: x[:, place].mean(-1), windows, POSITIONS)
    (relevance,) = maps.relevance
    assert int(np.argmax(relevance)) == place
    assert relevance[NAMES.index("Fz")] == 0
    assert maps.patterns.shape == (0, 19)
    usual = windows[:, place].mean(-1).square().mean().sqrt()
    assert relevance[place] == pytest.approx(float(usual), rel=1e-5)


def test_components_have_patterns_and_importance(windows):
    torch.manual_seed(1)
    components = SpatialComponents(3, 32, 2.0).eval()

    def answer(x):
        mask = (x != 0).any(-1)
        return components(x, PLACES, mask)[:, 1].square().mean(-1)

    maps = spatial_maps(components, answer, windows, POSITIONS)
    assert maps.importance[1] > 0
    assert maps.importance[[0, 2]].tolist() == [0, 0]
    mask = torch.ones(24, 19, dtype=torch.bool)
    with torch.no_grad():
        made = components(windows, PLACES, mask)
    applied = torch.tensor(maps.weights) @ windows / 19
    np.testing.assert_allclose(applied, made, atol=1e-5)
    # a source of one place is found there, whatever the weights are
    assert {int(np.abs(pattern).argmax()) for pattern in maps.patterns} == {NAMES.index("Pz")}
    one = np.cov(windows[:, 3].flatten(), made[:, 2].flatten())[0, 1] / made[:, 2].std().item()
    assert maps.patterns[2, 3] == pytest.approx(one, abs=0.05)
    # nothing stays hooked to the model
    assert not components._forward_hooks


def test_several_predictions_have_a_map_each(windows):
    places = [NAMES.index(name) for name in ("F7", "O2")]
    maps = spatial_maps(torch.nn.Identity(), lambda x: x[:, places, 0], windows, POSITIONS)
    assert maps.relevance.argmax(1).tolist() == places
    figure = spatial_figure(maps, POSITIONS, "", ("first", "second"))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["first", "second"]


def test_maps_are_drawn_with_and_without_components(windows):
    maps = spatial_maps(torch.nn.Identity(), lambda x: x[:, 0].mean(-1), windows, POSITIONS)
    assert len(spatial_figure(maps, POSITIONS).axes) == 1
    patterns = np.random.default_rng(0).normal(size=(8, 19))
    full = maps._replace(patterns=patterns, importance=np.arange(8.0),
                         relevance=np.full_like(maps.relevance, 312.7))  # fmt: skip
    figure = spatial_figure(full, POSITIONS, "ms")
    assert figure.axes[0].texts[-1].get_text() == "moves up to 310 ms"
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["hidden within 30°", *(f"component {k}" for k in (8, 7, 6, 5, 4))]
