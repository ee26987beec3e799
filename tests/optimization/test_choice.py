"""The rule by which a variant is chosen."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.variants import variants_figure
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.optimization.choice import choose, optimization_report, variants_table
from hbn_foundation.optimization.params import OptimizationParams

PARAMS = OptimizationParams(variants=("bf16", "onnx", "fp16"), largest_loss=0.01)


def table(**low):
    """Of fp32 at 0.8 and others, faster in this order, with the low ends of their changes."""
    names = ["fp32", *low]
    speed = pd.DataFrame(
        {
            "variant": [*names, "int8"],
            "failed": [""] * len(names) + ["no torchao"],
            "b1_t1_median_ms": [*(10.0 / (1 + i) for i in range(len(names))), np.nan],
            "b1_t2_median_ms": [*(20.0 / (1 + i) for i in range(len(names))), np.nan],
            "b1_t1_p99_ms": [12.0] * len(names) + [np.nan],
            "file_mb": [15.0] * (len(names) + 1),
        }
    )
    scores = pd.DataFrame(
        {
            "variant": names, "metric": "window_auroc", "n_subjects": 12, "n_windows": 900,
            "score": 0.8, "change": 0.0, "change_low": [0.0, *low.values()], "change_high": 0.001,
            "missing": ["", *("too few" if np.isnan(end) else "" for end in low.values())],
        }
    )  # fmt: skip
    return variants_table(speed, scores, PARAMS)


def test_the_fastest_is_chosen_that_may_lose_little():
    found = table(bf16=-0.001, onnx=-0.0079, fp16=-0.0081)  # one per cent of 0.8 is 0.008
    choice = choose(found, PARAMS)
    assert choice.name == "onnx"
    assert "3.0 ×" in choice.why
    text = render_text(optimization_report(found, choice, PARAMS, "Next: this"))
    assert "onnx *" in text
    assert "int8: no torchao." in text
    assert text.rstrip().endswith("Next: this")
    figure = variants_figure(found, choice.name, PARAMS.largest_loss)
    assert {"onnx", "fp32"} <= {one.get_text() for one in figure.axes[0].texts}


def test_a_slower_variant_is_never_chosen():
    found = table(bf16=0.001)
    found.loc[found["variant"] == "bf16", "decides_ms"] = 11.0
    assert choose(found, PARAMS).name == "fp32"


@pytest.mark.parametrize(
    ("low", "why"),
    [
        ({"bf16": -0.02, "onnx": -0.1}, "no faster variant's interval stays above −1%"),
        ({"bf16": np.nan}, "has an interval (too few)"),
        ({}, "no other variant"),
    ],
)
def test_else_the_model_stays_as_it_is(low, why):
    choice = choose(table(**low), PARAMS)
    assert choice.name == "fp32"
    assert why in choice.why
