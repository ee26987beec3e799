"""Maps show where the signal is that a model uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hbn_foundation.evaluation.figures.spatial import spatial_figure
from hbn_foundation.evaluation.spatial_maps import checkpoint_maps, relevance
from hbn_foundation.models.spatial import DIRECTIONS_10_20

NAMES = list(DIRECTIONS_10_20)
POSITIONS = np.array(list(DIRECTIONS_10_20.values()))


def test_hiding_the_channels_that_are_used_moves_the_prediction():
    torch.manual_seed(0)
    windows = torch.randn(24, 19, 100)
    places = [NAMES.index(name) for name in ("O1", "F8")]
    found = relevance(lambda x: x[:, places].mean(-1), windows, POSITIONS)
    assert found.argmax(1).tolist() == places  # each prediction has a map
    assert found[0, NAMES.index("Fz")] == 0
    usual = windows[:, places[0]].mean(-1).square().mean().sqrt()
    assert found[0, places[0]] == pytest.approx(float(usual), rel=1e-5)
    figure = spatial_figure(found, "ms", ("first", "second"))
    titles = [title for panel in figure.axes if (title := panel.get_title(loc="left"))]
    assert titles == ["first", "second"]
    bars = [panel for panel in figure.axes if panel.get_xlabel() == "shift (ms)"]
    assert len(bars) == 2  # a colour bar with its unit under each map
    figure.draw_without_rendering()
    for panel in figure.axes:
        box = panel.get_tightbbox()
        assert box.y0 >= 0  # nothing is cut
        assert box.x1 <= figure.bbox.x1


def test_a_fine_tuned_model_looks_where_the_response_is_planted(trials, tuned):
    test = trials.windows[trials.windows["subject"] >= "s16"].reset_index(drop=True)
    (found,) = checkpoint_maps(tuned[0], trials.store, test, factor=1000.0)
    assert {NAMES[place] for place in found.argsort()[-2:]} == {"Pz", "Cz"}
    assert found.max() > 8  # ms
