"""Labels of events take what a data set's events say, and tell what they leave out."""

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.events import label_events, recording_events
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.params import former_names
from recordings.eeg_files import bids_file, noise, raw_array, write

HEADER = "onset\tduration\ttrial_type\tside"
ROWS = (
    "0\t30\tstimulus/left/cued\tl",
    "30\t30\tstimulus/left\tl",
    "60\t30\tstimulus/right\tr",
    "n/a\t30\tstimulus/right\tr",
    "90\tn/a\tresponse\tn/a",
    "95,5\t0\tn/a\tr",
)


def listed(root: Path, *paths: Path) -> pd.DataFrame:
    names = [path.name.rpartition("_")[0] for path in paths]
    return pd.DataFrame(
        {
            "recording": names,
            "subject": [name.split("_")[0][4:] for name in names],
            "task": "rest",
            "run": float("nan"),
            "path": [path.relative_to(root).as_posix() for path in paths],
            "bids_root": str(root),
        }
    )


@pytest.fixture
def events(tmp_path) -> pd.DataFrame:
    path = bids_file(tmp_path, ".edf")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = path.with_name(path.name.replace("_eeg.edf", "_events.tsv"))
    table.write_text("\n".join((HEADER, *ROWS)))
    return recording_events(listed(tmp_path, path))


def label(**fields) -> LabelParams:
    return LabelParams(**{"kind": "event", "column": "trial_type", **fields})


def test_a_table_of_events_is_read_as_it_is(events):
    assert events["onset"].tolist()[:3] == [0.0, 30.0, 60.0]
    assert np.isnan(events["onset"][3])
    assert np.isnan(events["duration"][4])
    assert events["onset"][5] == 95.5
    assert events["trial_type"].isna().tolist() == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"values": ["stimulus/left", "stimulus/right"]},
            {"stimulus/left": 2, "stimulus/right": 1},
        ),
        ({"values": {"stimulus": "seen", "response": "pressed"}}, {"seen": 3, "pressed": 1}),
        ({"values": {"stimulus*": "c", "stimulus": "b", "stimulus/left": "a"}}, {"a": 2, "b": 1}),
        ({"values": ["stimulus/r*", "resp*"]}, {"stimulus/right": 1, "response": 1}),
        ({"values": {"stimulus": "a"}, "where": {"side": "l"}}, {"a": 2}),
        ({"column": "SIDE"}, {"l": 2, "r": 2}),
        ({}, {"stimulus/left/cued": 1, "stimulus/left": 1, "stimulus/right": 1, "response": 1}),
    ],
)
def test_values_are_names_beginnings_and_patterns(events, fields, expected):
    assert label_events(events, label(**fields))["event"].value_counts().to_dict() == expected


def test_what_is_left_out_is_told_with_counts(events, caplog):
    caplog.set_level("INFO")
    label_events(events, label(values=["stimulus", "nothing"]))
    assert "label.values: no event is nothing" in caplog.text
    assert "events that label.values does not name: response (1)" in caplog.text
    assert "1 of 4 events of trial_type have no onset and are left out" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"values": ["eyes"]},
            r"eyes matches none of 6 events, whose trial_type is stimulus/right",
        ),
        (
            {"column": "stage"},
            r"column stage is in no events.tsv; the columns are trial_type, side",
        ),
        ({"where": {"side": ["x"]}}, r"any value, where side is x matches none"),
    ],
)
def test_a_label_that_matches_nothing_is_one_line(events, fields, message):
    with pytest.raises(UserError, match=message):
        label_events(events, label(**fields))


def test_events_without_an_onset_or_at_all(events):
    with pytest.raises(UserError, match="none of the 6 events of trial_type has an onset"):
        label_events(events.assign(onset=np.nan, trial_type="x"), label())
    with pytest.raises(UserError, match="the recordings have no events"):
        label_events(events.iloc[:0], label())


@pytest.mark.parametrize("ending", [".edf", ".fif", ".vhdr"])
def test_annotations_are_events_where_there_is_no_table(tmp_path, ending, caplog):
    caplog.set_level("INFO")
    raw = raw_array(noise(2, 2000, 100.0), 100.0)
    raw.set_annotations(mne.Annotations([1.0, 11.5], [8.0, 4.0], ["closed", "open"]))
    path = write(raw, bids_file(tmp_path, ending))
    found = recording_events(listed(tmp_path, path))
    assert found[["onset", "duration"]].to_numpy() == pytest.approx(np.array([[1, 8], [11.5, 4]]))
    assert [text.removeprefix("Comment/") for text in found["trial_type"]] == ["closed", "open"]
    assert "1 of 1 recordings have no events.tsv" in caplog.text


@pytest.mark.parametrize("ending", [".set", ".fif", ".vhdr"])
def test_a_damaged_file_without_a_table_loses_its_events_alone(tmp_path, ending, caplog):
    caplog.set_level("INFO")
    path = bids_file(tmp_path, ending)
    path.write_bytes(b"no recording")
    assert recording_events(listed(tmp_path, path), annotations=False).empty
    assert "cannot be read" not in caplog.text
    assert recording_events(listed(tmp_path, path)).empty
    assert "the events of 1 of 1 recordings cannot be read: sub-1_task-rest: " in caplog.text


def windows_of(*values: tuple[str, int]) -> pd.DataFrame:
    """Windows of events, each given as (value, number of its windows)."""
    table = pd.DataFrame({"event": [value for value, _ in values]})
    table = table.assign(recording="a", subject="1", task="x", event_number=table.index)
    return table.loc[np.repeat(table.index, [n for _, n in values])].reset_index(drop=True)


def test_numbers_of_events_are_labels_that_count_once_an_event():
    # the last event has many windows, which move neither the median nor the mean of the events
    windows = windows_of(*[(str(number), 1) for number in range(7)], ("7.0", 20))
    people = pd.DataFrame({"subject": ["1"]})
    cut = window_targets(windows, people, label(column="value"), ["1"])
    assert cut.names == ("value ≤ 3.5", "value > 3.5")
    asked = label(column="value", type="regression")
    targets = window_targets(windows, people, asked, ["1"])
    assert targets.values.tolist() == [*range(7), *[7] * 20]
    assert (targets.mean, targets.is_regression) == (3.5, True)
    with pytest.raises(
        UserError, match=r"1 of 2 values of value in events.tsv .* closed of subject 1$"
    ):
        window_targets(windows_of(("1", 1), ("closed", 1)), people, asked, ["1"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "event"}, "kind: event needs column"),
        ({"kind": "event", "column": "value", "values": []}, "values must name at least one"),
        ({"kind": "task", "margin": 2.0}, "margin goes with kind: event, found kind: task"),
        ({"kind": "event", "column": "x", "windows": "locked", "margin": 2.0}, "are of blocks"),
        ({"kind": "event", "column": "x", "offset": 2.0}, "offset is of windows: locked"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        LabelParams.model_validate(fields)


def test_other_labels_name_runs_as_before():
    names = former_names({"label": LabelParams(kind="task").model_dump(mode="json")})["label"]
    assert set(names) == {"kind", "type", "column", "positive", "threshold"}
    asked = label(values={1: "closed"}, where={"run": 2}, margin=8.0)
    assert LabelParams(**asked.model_dump(mode="json")) == asked
