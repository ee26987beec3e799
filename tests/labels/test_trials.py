"""Trials follow the challenge's rules, on HBN's real events to the last one."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import TrialParams
from hbn_foundation.labels.trials import (
    NO_PRESS,
    NO_TARGET,
    RECORDING_COLUMNS,
    RUN_ENDS,
    TRIAL_COLUMNS,
    recording_trials,
    usable_trials,
)

RELEASES = {
    "ds005505": (293, 8472, 7316, 102, 1.5606, 0.4036),
    "ds005506": (301, 8869, 7565, 107, 1.5974, 0.4001),
    "ds005507": (388, 11504, 9586, 138, 1.5764, 0.4087),
    "ds005508": (756, 19611, 16604, 260, 1.5624, 0.4007),
    "ds005509": (745, 17880, 15144, 260, 1.5894, 0.3930),
}
START, LEFT, RIGHT = "contrastTrial_start", "left_target", "right_target"
PRESS_LEFT, PRESS_RIGHT = "left_buttonPress", "right_buttonPress"
STARTS, TARGETS, PRESSES = KINDS = (START,), (LEFT, RIGHT), (PRESS_LEFT, PRESS_RIGHT)
NAMES = [START, START, LEFT, RIGHT, PRESS_LEFT, PRESS_RIGHT, "break cnt", "9999", "net"]


def listed(root: Path, pattern: str = "*") -> pd.DataFrame:
    """Recordings that the events files of a root belong to, without their signals."""
    rows = []
    for path in sorted(root.glob(f"sub-*/eeg/{pattern}_events.tsv")):
        name = path.name.removesuffix("_events.tsv")
        row = {"recording": name, "subject": name.split("_")[0][4:], "task": name.split("-")[2]}
        place = path.relative_to(root).as_posix().replace("_events.tsv", "_eeg.bdf")
        rows.append({**row, "run": name[-1], "path": place, "bids_root": str(root)})
    return pd.DataFrame(rows)


def write_events(root: Path, text: str, subject: str = "1", encoding: str = "utf-8"):
    path = root / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-x_run-1_events.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def table(*rows: tuple, columns=("onset", "value", "feedback"), **params) -> pd.DataFrame:
    """Trials of rows (onset, value, feedback), the feedback n/a where it is left out."""
    filled = [[*map(str, row), "n/a"][: len(columns)] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        lines = ["\t".join(row) for row in (columns, *filled)]
        write_events(Path(folder), "\n".join(lines))
        return recording_trials(listed(Path(folder)), TrialParams(**params))[list(TRIAL_COLUMNS)]


@pytest.fixture(scope="session")
def real_trials(hbn_metadata_root) -> dict[str, tuple[int, pd.DataFrame]]:
    """Runs and trials of each real release."""
    found = {}
    for release in RELEASES:
        recordings = listed(hbn_metadata_root / release, "*_task-contrastChangeDetection_run-?")
        found[release] = len(recordings), recording_trials(recordings)
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_real_releases_give_the_known_figures(real_trials, release):
    n_runs, trials = real_trials[release]
    usable = usable_trials(trials)
    assert (
        n_runs,
        int(trials["stimulus"].notna().sum()),
        len(usable),
        usable["subject"].nunique(),
        round(usable["rt"].mean(), 4),
        round(usable["rt"].std(ddof=0), 4),
    ) == RELEASES[release]
    assert usable["correct"].isin([0, 1]).all()
    # what the feedback says is what the two sides say, but for a press in the target's own sample
    agrees = (usable["correct"] == 1) == (usable["side"] == usable["response_side"])
    assert (usable.loc[~agrees, "rt"] == 0).all()
    assert agrees.mean() > 0.9998
    assert set(trials["excluded"]) <= {"", NO_TARGET, NO_PRESS, RUN_ENDS}


def test_a_trial_is_what_the_first_target_and_the_first_press_after_it_say():
    trials = table(
        (0, "break cnt"),
        (1.0, START),
        (2.0, PRESS_RIGHT, "non_target"),
        (3.0, LEFT),
        (4.5, PRESS_RIGHT, "sad_face"),
        (4.6, PRESS_LEFT, "smiley_face"),
        (5.0, START),
        (7.0, RIGHT),
        (7.0, PRESS_RIGHT, "smiley_face"),
        (9.0, START),
        (9.1, "9999"),
    )
    first, second = trials.to_dict("records")
    assert first == {
        "trial": 1,
        "onset": 1.0,
        "stimulus": 3.0,
        "side": "left",
        "response": 4.5,
        "response_side": "right",
        "rt": 1.5,
        "correct": 0.0,
        "n_presses": 2,
        "excluded": "",
    }
    assert (second["trial"], second["rt"], second["correct"], second["n_presses"]) == (2, 0, 1, 1)


def test_reasons_for_exclusion():
    trials = table(
        (0.5, RIGHT),  # of a start that was aborted before the recording
        (1, START),
        (1.5, PRESS_LEFT),
        (2, START),
        (3, LEFT),
        (4, START),
        (5, LEFT),
        (6, PRESS_LEFT),
    )
    assert trials["excluded"].tolist() == [NO_TARGET, NO_PRESS, RUN_ENDS]
    assert trials["trial"].tolist() == [1, 2, 3]
    assert trials["n_presses"].tolist() == [0, 0, 1]
    assert trials["rt"].notna().tolist() == [False, False, True]
    assert usable_trials(trials).empty
    # a press at the next start belongs to the next trial
    rows = [(0, START), (1, LEFT), (3, PRESS_LEFT, "smiley_face"), (3, START), (4, START)]
    assert table(*rows)["excluded"].tolist() == [NO_PRESS, NO_TARGET]


@pytest.mark.parametrize("feedback", ["n/a", ""])
def test_unknown_feedback_leaves_correct_unknown(feedback):
    rows = [(0, START), (1, LEFT), (2, PRESS_LEFT, feedback), (3, START)]
    assert np.isnan(table(*rows)["correct"].item())
    without = table(*(row[:2] for row in rows), columns=("onset", "value"))
    assert np.isnan(without["correct"].item())
    assert without["excluded"].item() == ""


def test_other_names_are_a_matter_of_configuration():
    trials = table(
        *((1.0, "checker-left"), (1.4, "button", 1), (3.0, "checker-right"), (3.3, "button", 0)),
        (5.0, "checker-left"),
        columns=("onset", "trial_type", "answer"),
        event_column="trial_type",
        feedback_column="answer",
        starts=("checker-left", "checker-right"),
        left_targets=("checker-left",),
        right_targets=("checker-right",),
        left_presses=("button",),
        right_presses=(),
        correct_feedback=("1",),
    )
    trials = usable_trials(trials)
    assert trials["side"].tolist() == ["left", "right"]
    assert trials["rt"].round(6).tolist() == [0.4, 0.3]
    assert trials["correct"].tolist() == [1, 0]


def test_names_with_two_meanings_are_refused():
    with pytest.raises(UserError, match="events in two roles: left_target"):
        TrialParams.model_validate({"right_targets": ["left_target"]})
    with pytest.raises(UserError, match="events in two roles: go"):
        TrialParams.model_validate({"starts": ["go"], "left_presses": ["go"]})
    with pytest.raises(UserError, match="at least one event for targets"):
        TrialParams.model_validate({"left_targets": [], "right_targets": []})


def test_files_as_they_come(tmp_path, caplog):
    head, start = "onset\tduration\tvalue\tfeedback", f"1\tn/a\t{START}\tn/a"
    rest = f"2\tn/a\t{LEFT}\tn/a\n3\tn/a\t{PRESS_LEFT}\tsmiley_face\n5\tn/a\t{START}\tn/a\n"
    write_events(
        tmp_path, f"{head}\r\n{start}\r\n" + rest.replace("\n", "\r\n"), "bom", "utf-8-sig"
    )
    write_events(tmp_path, f"{head}\n{start}\nn/a\tn/a\t{LEFT}\tn/a\n\n{rest}", "gaps")
    write_events(
        tmp_path, f"onset\tvalue\n1\t{START}\n2\t{LEFT}\n3\t{PRESS_LEFT}\n5\t{START}", "bare"
    )
    write_events(
        tmp_path, f"{head}\n{start}\n2\tn/a\t{LEFT}\n3\tn/a\t{PRESS_LEFT}\n5\tn/a\t{START}", "short"
    )
    commas = f"1,5\tn/a\t{START}\tn/a\n" + rest.replace("2\t", "2,0\t")
    write_events(tmp_path, f"Onset\tDuration\tVALUE\tFeedback\n{commas}", "commas")
    write_events(tmp_path, "", "empty")
    write_events(tmp_path, "onset\ttrial_type\n1\tgo\n", "other")
    write_events(tmp_path, f"{head}\n{start}\n{rest}9\tn/a\té\tn/a\n", "latin", "latin-1")
    write_events(tmp_path, f"{head}\n{start}\n\0\n", "zeros")
    recordings = listed(tmp_path)
    lost = recordings.iloc[:1].assign(recording="sub-9", path="sub-9/eeg/sub-9_eeg.bdf")
    with caplog.at_level("INFO"):
        trials = recording_trials(pd.concat([recordings, lost]))
    assert trials["subject"].tolist() == ["bare", "bom", "commas", "gaps", "latin", "short"]
    assert trials["rt"].tolist() == [1, 1, 1, 1, 1, 1]
    assert trials["correct"].isna().tolist() == [True, *[False] * 4, True]
    assert "left out: 1 events file: sub-zeros_task-x_run-1_events.tsv: no text" in caplog.text
    assert "sub-empty_task-x_run-1, sub-other_task-x_run-1 have no column value" in caplog.text


def test_data_without_events_give_an_empty_table_of_the_same_columns(tmp_path):
    write_events(tmp_path, f"onset\tvalue\n1\t{START}\n2\t{LEFT}\n3\t{PRESS_LEFT}\n5\t{START}")
    filled = recording_trials(listed(tmp_path))
    nothing = listed(tmp_path).assign(path="sub-2/eeg/sub-2_task-x_eeg.edf", run=None)
    empty = recording_trials(nothing)
    assert empty.columns.tolist() == filled.columns.tolist()
    assert filled.columns.tolist() == [*RECORDING_COLUMNS, *TRIAL_COLUMNS]
    assert empty.empty
    pd.testing.assert_series_equal(empty.dtypes, filled.dtypes)
    write_events(tmp_path, "onset\tvalue\n1\tresting_start\n")
    pd.testing.assert_frame_equal(recording_trials(listed(tmp_path)), empty)


RUNS = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda tick: tick / 2),
        st.sampled_from(NAMES),
        st.sampled_from(["smiley_face", "sad_face", "non_target", "n/a"]),
    ),
    max_size=40,
)


@settings(max_examples=80)
@given(RUNS)
def test_whatever_the_events_trials_keep_their_order_and_their_bounds(rows):
    times = {kind: sorted(onset for onset, name, _ in rows if name in kind) for kind in KINDS}
    starts = sorted(set(times[STARTS]))
    found = {trial["onset"]: trial for trial in table(*rows).to_dict("records")}
    assert list(found) == [start for start in starts if start in found]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], np.inf], strict=False), 1):
        inside = [time for time in times[TARGETS] if start <= time < end]
        if not inside and np.isinf(end):
            assert start not in found
            continue
        trial = found[start]
        assert trial["trial"] == number
        after = [time for time in times[PRESSES] if inside and inside[0] <= time < end]
        assert trial["n_presses"] == len(after)
        assert np.array_equal(trial["stimulus"], inside[0] if inside else np.nan, equal_nan=True)
        assert np.array_equal(trial["response"], after[0] if after else np.nan, equal_nan=True)
        assert pd.isna(trial["side"]) != bool(inside)
        assert pd.isna(trial["response_side"]) != bool(after)
        assert (trial["excluded"] == "") == (bool(after) and np.isfinite(end))
        assert not after or trial["rt"] == after[0] - inside[0] >= 0


@settings(max_examples=30)
@given(RUNS, st.lists(st.floats(0, 20), max_size=3), st.randoms(use_true_random=False))
def test_strays_and_the_order_of_other_times_change_nothing(rows, strays, random):
    rows = list({row[0]: row for row in rows}.values())
    mixed = [*rows, *((time, "boundary", "n/a") for time in strays), ("n/a", LEFT, "n/a")]
    random.shuffle(mixed)
    pd.testing.assert_frame_equal(table(*rows), table(*mixed))
