"""Figures of the data are drawn for any data set, whatever is known about it."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.dataset import dataset_figure, quality_figure


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    n = 12
    return pd.DataFrame(
        {
            "recording": [f"sub-{i}_task-rest" for i in range(n)],
            "subject": [str(i) for i in range(n)],
            "task": ["rest", "film"] * 6,
            "status": ["ok"] * 10 + ["failed"] * 2,
            "reason": [""] * 10 + ["truncated", "empty file"],
            "duration": [*random.uniform(60, 300, 10), np.nan, np.nan],
            "n_channels": [19] * 10 + [np.nan] * 2,
            "n_bad": [0, 1, 2, 0, 0, 0, 1, 0, 0, 0, np.nan, np.nan],
            "bad_channels": ["", "Cz (flat)", "Cz (flat), O1 (noisy)"] + [""] * 9,
            "line_noise": [*random.lognormal(size=10), np.nan, np.nan],
            "amplitude_uv": [*random.lognormal(2, size=10), np.nan, np.nan],
        }
    )


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_quality_says_what_is_left_out_and_why(table):
    figure = quality_figure(table)
    said = texts(figure)
    assert "10 of 12 recordings can be used" in said
    assert "sub-11_task-rest" in said
    assert "empty file" in said
    figure.canvas.draw()
    bad = next(axes for axes in figure.axes if "most often" in axes.get_title(loc="left"))
    assert [label.get_text() for label in bad.get_yticklabels()] == ["O1", "Cz"]
    assert max(patch.get_x() + patch.get_width() for patch in bad.patches) == pytest.approx(20)
    assert bad.get_xlim()[1] == pytest.approx(21)


def test_a_channel_that_is_always_bad_ends_the_axis(table):
    always = table.assign(bad_channels="Cz (flat), O1 (noisy, weak)")
    figure = quality_figure(always)
    bad = next(axes for axes in figure.axes if "most often" in axes.get_title(loc="left"))
    assert bad.get_xlim()[1] == 100
    figure.draw_without_rendering()
    legend = bad.get_legend().get_window_extent()
    assert legend.y1 < bad.xaxis.label.get_window_extent().y0  # hides neither bar nor label
    assert legend.x0 > figure.bbox.x0
    assert legend.x1 < figure.bbox.x1


def test_the_reference_is_no_bad_channel(table):
    table = table.assign(reference="Cz")
    figure = quality_figure(table.assign(bad_channels=[""] * 8 + ["O1 (noisy)"] * 2 + [""] * 2))
    bad = next(axes for axes in figure.axes if "most often" in axes.get_title(loc="left"))
    assert [label.get_text() for label in bad.get_yticklabels()] == ["O1"]
    assert "reference, not counted: Cz" in bad.get_xlabel()
    assert "reference, not counted: Cz" in texts(quality_figure(table.assign(bad_channels="")))


def test_quality_without_measures_or_recordings(table):
    bare = table[["recording", "subject", "task", "status", "reason", "duration"]]
    said = texts(quality_figure(bare))
    assert said.count("not measured") == 3
    assert "end below 50 Hz" in said
    assert "none" in texts(quality_figure(bare.head(3))).split("\n")
    quality_figure(bare.tail(2)).canvas.draw()


def test_quality_of_perfect_recordings(table):
    table = table.assign(n_bad=0, bad_channels="", line_noise=1.0).head(10)
    figure = quality_figure(table)
    assert "none in 10 recordings" in texts(figure)
    assert "no bad channels" in texts(figure)
    figure.canvas.draw()


def test_dataset_counts_every_split(table):
    splits = pd.DataFrame(
        {"subject": table["subject"], "split": ["train"] * 8 + ["validation"] * 2 + ["test"] * 2}
    )
    participants = pd.DataFrame(
        {"subject": table["subject"], "age": range(6, 18), "sex": ["F", "M", None] * 4}
    )
    windows = pd.DataFrame({"subject": ["0", "1", "8", "10"], "task": ["rest", "film"] * 2})
    figure = dataset_figure(table, splits, participants, windows)
    said = texts(figure)
    assert "8 subjects" in said
    assert "2 windows" in said
    assert "train 9.5" in said
    figure.canvas.draw()
    ages = next(axes for axes in figure.axes if axes.get_title(loc="left") == "Age")
    assert sum(patch.get_height() for patch in ages.patches if patch.get_y() == 0) <= 12
    unknown = texts(dataset_figure(table, splits, participants[["subject"]], windows.head(0)))
    for what in ("age is not known", "sex is not known", "no windows"):
        assert what in unknown
