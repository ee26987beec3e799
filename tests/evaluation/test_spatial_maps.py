"""Maps show where the signal is that a model uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hbn_foundation.evaluation.figures.spatial import spatial_figure
from hbn_foundation.evaluation.spatial_maps import checkpoint_maps, spatial_maps
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
    # channels as a linear function of all components together
    flat = made - made.mean(-1, keepdim=True)
    flat = flat.transpose(0, 1).flatten(1).double().numpy()
    signals = windows - windows.mean(-1, keepdim=True)
    signals = signals.transpose(0, 1).flatten(1).double().numpy()
    expected = np.linalg.lstsq(flat.T, signals.T, rcond=None)[0] * flat.std(1)[:, None]
    np.testing.assert_allclose(maps.patterns, expected, rtol=1e-3, atol=1e-4)
    # nothing stays hooked to the model
    assert not components._forward_hooks


class Unmixed(SpatialComponents):
    """Components that undo a known mixture."""

    def __init__(self, mixture: np.ndarray) -> None:
        super().__init__(mixture.shape[1], 32, 2.0)
        self.unmixing = torch.tensor(np.linalg.pinv(mixture), dtype=torch.float32)

    def forward(self, signals, positions, mask):
        return self.unmixing.to(signals) @ signals


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_patterns_are_those_of_the_sources_also_where_these_are_correlated(correlation):
    """Haufe et al. 2014: the covariance with a source alone also shows what goes along with it."""
    random = np.random.default_rng(0)
    mixture = random.normal(size=(19, 3))
    covariance = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    scales = np.array([1.0, 3.0, 0.2])
    sources = random.multivariate_normal(np.zeros(3), covariance, (40, 200)) * scales
    noise = 0.02 * random.normal(size=(40, 19, 200))
    signals = torch.tensor(mixture @ sources.swapaxes(1, 2) + noise, dtype=torch.float32)
    model = Unmixed(mixture).eval()
    maps = spatial_maps(
        model, lambda x: model(x, PLACES, (x != 0).any(-1))[:, 0, 0], signals, POSITIONS
    )
    deviations = sources.reshape(-1, 3).std(0)
    np.testing.assert_allclose(maps.patterns, (mixture * deviations).T, atol=0.03)


def titles_of(figure):
    return [title for panel in figure.axes if (title := panel.get_title(loc="left"))]


def test_maps_are_drawn_with_and_without_components(windows):
    places = [NAMES.index(name) for name in ("F7", "O2")]
    maps = spatial_maps(torch.nn.Identity(), lambda x: x[:, places, 0], windows, POSITIONS)
    assert maps.relevance.argmax(1).tolist() == places  # each prediction has a map
    assert titles_of(spatial_figure(maps, POSITIONS, "", ("first", "second"))) == [
        "first",
        "second",
    ]
    patterns = np.random.default_rng(0).normal(size=(8, 19))
    full = maps._replace(patterns=patterns, importance=np.arange(8.0),
                         relevance=np.full_like(maps.relevance, 312.7))  # fmt: skip
    figure = spatial_figure(full, POSITIONS, "ms")
    titles = ["hidden within 30°", *(f"component {k}" for k in (8, 7, 6, 5, 4))]
    assert titles_of(figure) == titles
    assert "the model relies on" in figure.get_suptitle()
    bars = [panel for panel in figure.axes if panel.get_xlabel()]
    assert len(bars) == len(titles)  # a colour bar with its unit under each map
    assert bars[0].get_xlabel() == "shift (ms)"
    assert [label.get_text() for label in bars[0].get_xticklabels()] == ["0", "310"]
    assert bars[1].get_xlabel() == "signal units per sd\nwithout it: 7 ms"
    figure.draw_without_rendering()
    for panel in figure.axes:
        box = panel.get_tightbbox()
        assert box.y0 >= 0  # nothing is cut
        assert box.x1 <= figure.bbox.x1


def test_a_fine_tuned_model_looks_where_the_response_is_planted(trials, tuned):
    test = trials.windows[trials.windows["subject"] >= "s16"].reset_index(drop=True)
    maps = checkpoint_maps(tuned[0], trials.store, test, factor=1000.0)
    places = np.array(NAMES)[np.argsort(maps.relevance[0])[-2:]]
    assert set(places) == {"Pz", "Cz"}
    assert maps.relevance.max() > 8  # ms
    assert maps.importance.max() > 1  # ms
