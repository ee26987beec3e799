"""The figure of latency against change."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.variants import variants_figure

NAMES = ["onnx", "bf16", "int8", "cached", "compile", "fp32", "int8_dynamic"]


@pytest.mark.parametrize("largest", [9.0, 15.0, 260.0])
def test_names_of_alike_variants_do_not_cover_each_other(largest):
    latency = [6.6, 7.0, 7.5, 7.53, 7.6, 7.9, largest]
    table = pd.DataFrame(
        {"variant": NAMES, "decides_ms": latency, "change_share": 0.0, "metric": "window_auroc",
         "change_share_low": -0.002, "change_share_high": np.nan}
    )  # fmt: skip
    figure = variants_figure(table, "onnx", 0.01)
    figure.canvas.draw()
    (panel,) = figure.axes
    boxes = [one.get_window_extent() for one in panel.texts if one.get_text() in NAMES]
    assert len(boxes) == len(NAMES)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(panel.bbox.contains(*corner) for box in boxes for corner in box.corners())
    low, high = panel.get_xlim()
    shown = [place for place in panel.get_xticks() if low <= place <= high]
    assert len(shown) >= 3
