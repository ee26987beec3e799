"""Classes over time: what is drawn, in which order, and what is said where nothing changes."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.timeline import timeline_figure


def night(subject: str, onsets: list[float], label: str, predicted: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "recording": f"sub-{subject}_task-sleep",
            "subject": subject,
            "onset": onsets,
            "label": list(label),
            "predicted": list(predicted),
        }
    )


def test_line_is_lifted_where_windows_are_missing_and_errors_are_marked():
    table = night("01", [0, 30, 60, 180, 210], "WWRRN", "WRRRR")
    panel = timeline_figure(table, ("W", "R")).axes[0]
    assert [one.get_text() for one in panel.get_yticklabels()] == ["W", "R", "N"]
    assert panel.get_title(loc="left").startswith("01: accuracy 0.600")
    true, predicted, wrong = (line.get_data() for line in panel.get_lines())
    for course, expected in ((true, [0, 0, 1, 1, np.nan, 1, 2, 2, np.nan]),
                             (predicted, [0, 1, 1, 1, np.nan, 1, 1, 1, np.nan])):  # fmt: skip
        assert np.array_equal(course[1], expected, equal_nan=True)
        assert np.allclose(course[0] * 60, [0, 30, 60, 90, 90, 180, 210, 240, 240])
    assert np.allclose(wrong[0] * 60, [45, 225])


def test_a_panel_for_each_of_four_subjects_with_several_classes():
    nights = [night(f"{n:02d}", [0, 30, 60, 90], "WWRR", "WWRR") for n in range(6)]
    one_class = night("-1", [0, 30, 60, 90], "WWWW", "WWRR")
    assert len(timeline_figure(pd.concat([one_class, *nights])).axes) == 4


@pytest.mark.parametrize("lacking", ["onset", "label", "change"])
def test_figure_says_where_nothing_changes_over_time(lacking):
    table = night("01", [0, 30, 60, 90], "WWWW" if lacking == "change" else "WWRR", "WWRR")
    (panel,) = timeline_figure(table.drop(columns=[lacking], errors="ignore")).axes
    assert not panel.get_lines()
    assert "No class" in panel.texts[0].get_text()
