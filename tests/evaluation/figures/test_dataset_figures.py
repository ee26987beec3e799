"""Figures of the data are drawn for any data set, whatever is known about it."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.dataset import dataset_figure, quality_figure

BAD = "Channels most often bad"


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
            "n_bad": [0, 1, 2, 0, 0, 0, 1, 0, 0, 0, np.nan, np.nan],
            "bad_channels": ["", "Cz (flat)", "Cz (flat), O1 (noisy)"] + [""] * 9,
            "reference": "",
            "line_noise": [*random.lognormal(size=10), np.nan, np.nan],
            "amplitude_uv": [*random.lognormal(2, size=10), np.nan, np.nan],
        }
    )


def drawn(figure) -> str:
    from matplotlib.text import Text

    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def bars(figure, title):
    """The ends of the bars of a panel by their names."""
    (panel,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    names = [label.get_text() for label in panel.get_yticklabels()]
    ends = [max(bar[place].get_x() + bar[place].get_width() for bar in panel.containers)
            for place in range(len(names))]  # fmt: skip
    return dict(zip(names, ends, strict=True)), panel


def test_quality_says_what_is_left_out_and_why(table):
    figure = quality_figure(table)
    said = drawn(figure)
    for words in ("10 of 12 recordings can be used", "sub-11_task-rest", "empty file"):
        assert words in said
    assert bars(figure, BAD)[0] == pytest.approx({"O1": 10, "Cz": 20})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_bad": np.nan, "line_noise": np.nan, "amplitude_uv": np.nan}, ["not measured"] * 3),
        ({"n_bad": 0, "bad_channels": "", "line_noise": 1.0}, ["median 0", "no bad channels"]),
        ({"status": "ok", "reference": "Cz"}, ["none", "reference, not counted: Cz"]),
        ({"bad_channels": "", "reference": "Cz"}, ["no bad channels\nreference, not counted: Cz"]),
        ({"status": "failed"}, ["no recording", "and 7 more: see the quality table"]),
        ({"bad_channels": "Cz (flat), O1 (noisy, weak)"}, ["noisy, weak"]),
    ],
)
def test_quality_of_any_recordings(table, change, said):
    found = drawn(quality_figure(table.assign(**change)))
    for words in set(said):
        assert found.count(words) >= said.count(words)
    bare = table.drop(columns=["n_bad", "bad_channels", "line_noise", "reference", "amplitude_uv"])
    assert drawn(quality_figure(bare)).count("not measured") == 3


def test_dataset_counts_every_split(table):
    splits = pd.DataFrame(
        {"subject": table["subject"], "split": ["train"] * 8 + ["validation"] * 2 + ["test"] * 2}
    )
    participants = pd.DataFrame(
        {"subject": table["subject"], "age": range(6, 18), "sex": ["F", "M", None] * 4}
    )
    windows = pd.DataFrame({"subject": ["0", "1", "8", "10"], "task": ["rest", "film"] * 2})
    figure = dataset_figure(table, splits, participants, windows)
    said = drawn(figure)
    for words in ("8 subjects", "2 windows", "train 9.5", "unknown"):
        assert words in said
    assert bars(figure, "Windows of each task")[0] == {"film": 2, "rest": 2}
    assert bars(figure, "Sex")[0] == pytest.approx(
        dict.fromkeys(("test", "validation", "train"), 100)
    )
    unknown = drawn(dataset_figure(table, splits, participants[["subject"]], windows.head(0)))
    for what in ("age is not known", "sex is not known", "no windows"):
        assert what in unknown
