"""A zip is scored on a release as the challenge does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from toys import written

from hbn_foundation.cli import cli
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.labels.participants import FACTORS, read_participants
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.scores import nrmse
from hbn_foundation.submission.params import LimitParams, ScoringParams
from hbn_foundation.submission.scoreboard import (
    LocalScore,
    from_demographics,
    invalid,
    score_text,
    scores_table,
)
from hbn_foundation.submission.scoring import local_score, of_subjects, score_release
from processes import alive, wait_for

TASK = "contrastChangeDetection"
LIMITS = LimitParams(threads=1)
TARGETS = {1: "rt", 2: "externalizing"}


@pytest.fixture(scope="module")
def release(tiny_bids, tmp_path_factory) -> Path:
    """The tiny release with one damaged file, an excluded subject and one without factors."""
    root = tmp_path_factory.mktemp("release") / "bids"
    shutil.copytree(tiny_bids, root)
    damaged = next((root / "sub-NDARSIM003").glob(f"eeg/*{TASK}*.bdf"))
    damaged.write_bytes(damaged.read_bytes()[:-100_000])
    table = pd.read_csv(root / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.loc[table["participant_id"] == "sub-NDARSIM002", list(FACTORS)] = "n/a"
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    for path in sorted((root / "sub-NDARSIM006" / "eeg").iterdir()):
        path.rename(path.with_name(path.name.replace("NDARSIM006", "NDARUJ292JXV")))
    (root / "sub-NDARSIM006").rename(root / "sub-NDARUJ292JXV")
    return root


@pytest.fixture(scope="module")
def scored(release, tmp_path_factory) -> LocalScore:
    """The score of a submission that answers with samples of the window it is given."""
    submission = written(
        init="self.calls = 0",
        forward="return volts[:, 5:6, 7] * 1e6",
        second="self.calls += 1; assert volts.shape == (1, 129, 200); "
        "return 1e3 * self.calls + 1e6 * volts[:, 128:129, 199] + 1e6 * volts[:, 9:10, 0]",
    )
    path = submission.save(tmp_path_factory.mktemp("zip") / "a.zip")
    params = ScoringParams(limits=LIMITS, challenge2_tasks=("RestingState", TASK), seed=4)
    return score_release(path, str(release), params)


def raw_of(release: Path, recording: str) -> mne.io.BaseRaw:
    subject = recording.split("_")[0]
    return mne.io.read_raw(release / subject / "eeg" / f"{recording}_eeg.bdf", verbose="ERROR")


def test_windows_of_response_times_are_those_of_the_file(scored, release):
    windows = scored.predictions[1]
    assert sorted(windows["subject"].unique()) == [f"NDARSIM00{n}" for n in (1, 2, 4, 5)]
    for recording, rows in windows.groupby("recording"):
        data = raw_of(release, recording).get_data(picks=["E6"])[0]
        events = pd.read_csv(
            release / f"{recording.split('_')[0]}/eeg/{recording}_events.tsv", sep="\t"
        )
        stimuli = events.loc[events["value"].isin(["left_target", "right_target"]), "onset"]
        starts = np.round(stimuli.to_numpy() * 100).astype(int) + 50
        assert set(rows["start"]) <= set(starts)
        expected = data[rows["start"].to_numpy() + 7] * 1e6
        np.testing.assert_allclose(rows["predicted_rt"], expected, rtol=1e-5, atol=1e-5)
        presses = events.loc[events["value"].str.endswith("Press"), "onset"].to_numpy()
        first = [presses[presses >= (s - 50) / 100 - 0.006].min() for s in rows["start"]]
        np.testing.assert_allclose(rows["rt"], first - (rows["start"] - 50) / 100, atol=0.006)


def test_crops_of_the_factor_are_those_of_the_file_one_by_one_in_order(scored, release):
    windows = scored.predictions[2]
    assert list(windows["subject"]) == sorted(windows["subject"])
    assert sorted(windows["subject"].unique()) == [f"NDARSIM00{n}" for n in (1, 3, 4, 5)]
    assert set(windows["task"]) == {"RestingState", TASK}
    given = windows["predicted_externalizing"].to_numpy()
    calls = np.round(given / 1e3)
    assert list(calls) == list(range(1, len(windows) + 1))
    for recording, rows in windows.groupby("recording"):
        raw = raw_of(release, recording)
        assert len(rows) == (raw.n_times - 400) // 200 + 1
        data = raw.get_data(picks=["E10", "Cz"])
        start = rows["start"].to_numpy()
        expected = 1e6 * (data[1, start + 199] + data[0, start])
        np.testing.assert_allclose(given[rows.index] - 1e3 * calls[rows.index], expected, atol=0.05)
    assert np.abs(given - 1e3 * calls).max() > 1
    people = read_participants(release).set_index("subject")
    expected = people["externalizing"].reindex(windows["subject"]).to_numpy()
    np.testing.assert_array_equal(windows["externalizing"], expected)


def test_scores(scored):
    scores = scored.scores.set_index(["method", "target"])["value"]
    windows = scored.predictions[1]
    error = windows["rt"] - windows["predicted_rt"]
    expected = np.sqrt((error**2).mean()) / windows["rt"].std(ddof=0)
    assert scores["submission", "rt"] == pytest.approx(expected)
    whole = 0.3 * scores["submission", "rt"] + 0.7 * scores["submission", "externalizing"]
    assert scores["submission", "overall"] == pytest.approx(whole)
    np.testing.assert_allclose(scores["mean of the true values"], 1.0)
    assert set(scored.scores["kind"]) >= {"model", "reference"}
    assert set(scored.scores["n_windows"]) == {*map(len, scored.predictions.values()), sum(
        map(len, scored.predictions.values())
    )}  # fmt: skip


def test_intervals_are_over_subjects():
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{n}" for n in range(20)], 30)
    tables = {
        number: pd.DataFrame({"subject": subjects, target: random.normal(2, 0.5, 600)})
        for number, target in TARGETS.items()
    }
    for number, target in TARGETS.items():
        of_subject = np.repeat(random.normal(0, 0.3, 20), 30)
        tables[number][f"predicted_{target}"] = tables[number][target] + of_subject
    people = pd.DataFrame({"subject": subjects[::30], "age": np.nan, "sex": np.nan})
    table = scores_table(tables, TARGETS, people, ScoringParams()).set_index(["method", "target"])
    row = table.loc[("submission", "rt")]
    score, low, high = bootstrapped(tables[1])
    assert row["value"] == pytest.approx(score)
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx([low, high])
    assert low < score < high
    assert row["n_subjects"] == 20
    overall = table.loc[("submission", "overall")]
    assert overall["ci_low"] < overall["value"] < overall["ci_high"]
    few = {number: part[:30] for number, part in tables.items()}
    assert invalid(few[1], "rt") is None
    assert "all true values are the same" in invalid(few[1].assign(rt=1.0), "rt")
    assert scores_table(few, TARGETS, people, ScoringParams())["ci_low"].isna().all()


def bootstrapped(table):
    """The same by windows: each resample's NRMSE from the windows themselves."""
    true, said = table["rt"].to_numpy(), table["predicted_rt"].to_numpy()

    def score(chosen):
        return nrmse(true[chosen], said[chosen])

    interval = bootstrap_interval(score, table["subject"].to_numpy(), ScoringParams().bootstraps)
    return score(np.arange(len(true))), *interval[:2]


def test_what_is_left_out_is_told(scored):
    name = f"sub-NDARSIM003_task-{TASK}_run-1"
    assert list(scored.skipped) == [name]
    text = score_text(scored)
    assert f"Left out: 1 recording, such as {name}: truncated" in text
    assert f"Challenge 1: {len(scored.predictions[1])} windows of 4 recordings, 4 subjects." in text


def test_the_command(release, tmp_path):
    path = written(forward="return torch.full((1, 1), 1.5)").save(tmp_path / "a.zip")
    arguments = ["score", str(path), "--bids-root", str(release), "--output", str(tmp_path / "out"),
                 "--max-subjects", "2", "--factor", "p_factor"]  # fmt: skip
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "2: p_factor" in result.output
    saved = {file.name for file in (tmp_path / "out").iterdir()}
    assert saved == {"scores.csv", "scores.txt", "predictions1.csv", "predictions2.csv"}
    windows = pd.read_csv(tmp_path / "out" / "predictions1.csv")
    assert (windows["predicted_rt"] == 1.5).all()
    assert windows["subject"].nunique() == 2
    second = pd.read_csv(tmp_path / "out" / "predictions2.csv")
    assert list(second.columns[-2:]) == ["p_factor", "predicted_p_factor"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/no/such.zip", "--bids-root", "."], "/no/such.zip: no such file"),
        (["{zip}", "--bids-root", "/no/such/root"], "/no/such/root: no such folder"),
        (["{zip}", "--bids-root", ".", "--factor", "iq"], "factor='iq'"),
        (["{zip}", "--bids-root", ".", "--batch-size", "-1"], "batch_size=-1"),
        (["{zip}", "--bids-root", "{root}", "--task", "none"], None),
    ],
)
def test_mistakes_on_the_command_line(release, tmp_path, arguments, expected):
    path = written(forward="return volts[:, 0, 0]").save(tmp_path / "a.zip")
    places = {"zip": path, "root": release}
    result = CliRunner().invoke(cli, ["score", *(a.format(**places) for a in arguments)])
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert (expected or "challenge 1: gives [1]; expected [1, 1]") in line


@pytest.mark.parametrize("wrong", ["nan", "inf"])
def test_one_answer_that_is_not_finite_is_told_with_its_trial(release, wrong):
    submission = written(
        init="self.calls = 0",
        forward="self.calls += 1; "
        f"return torch.full((1, 1), float('{wrong}') if self.calls == 3 else 1.5)",
        second="return torch.zeros(1, 1)",
    )
    recordings = find_recordings(release)
    score = local_score(submission, recordings, read_participants(release), ScoringParams())
    found = score.scores.set_index(["method", "target"])["value"]["submission"]
    assert np.isnan(found["rt"])
    assert np.isnan(found["overall"])
    assert found["externalizing"] > 0
    first, second = score.predictions[1], score.predictions[2]
    assert list(np.flatnonzero(~np.isfinite(first["predicted_rt"]))) == [2]
    assert second["predicted_externalizing"].notna().all()
    text = " ".join(score_text(score).split())
    place = f"{wrong} for trial {first['trial'][2]} of {first['recording'][2]}"
    assert f"Challenge 1: the score is invalid: 1 answer is not finite of {len(first)}" in text
    assert place in text
    assert "Challenge 2: the score" not in text


def test_only_subjects_that_no_model_has_seen_are_scored():
    recordings = pd.DataFrame({"subject": ["a", "b", "c"]})
    splits = pd.DataFrame({"subject": ["a", "b", "c"], "split": ["validation", "test", "train"]})
    trained = {"training_subjects": ["c", "b"], "validation_subjects": []}
    chosen = {"training_subjects": ["c"], "validation_subjects": ["b", "a"]}

    def scored(subjects, *models):
        params = ScoringParams(subjects=subjects)
        return of_subjects(recordings, splits, params, models)["subject"].tolist()

    assert scored("test") == ["b"]
    assert scored("validation", chosen) == ["a"]  # with a warning
    assert scored("all", trained) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"best epoch was chosen on 1 of the test subjects \(b\)"):
        scored("test", {}, chosen)
    with pytest.raises(UserError, match="b"):
        scored("test", {}, trained)
    with pytest.raises(UserError, match="a"):
        scored("validation", {"training_subjects": ["a"], "validation_subjects": []})
    recordings = recordings[:1]
    with pytest.raises(UserError, match="no recording is of a test subject"):
        scored("test")


@pytest.mark.skipif(os.name != "posix", reason="signals go to groups of processes")
def test_ctrl_c_ends_a_score_in_one_line(release, tmp_path):
    path = written(forward="return volts[:, :1, 0]").save(tmp_path / "a.zip")
    arguments = ["score", str(path), "--bids-root", str(release)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hbn_foundation", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: psutil.Process(process.pid).children())
    family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    # a shell calls both 130; Python ends by the signal where it interrupted an `exec` of a library
    assert process.returncode in (130, -signal.SIGINT), said
    assert said.splitlines()[-1].startswith("Stopped by SIGINT; this begins again: "), said
    assert said.splitlines()[-1].endswith(f"score {path} --bids-root {release}")
    assert "Traceback" not in said
    assert "Aborted" not in said
    wait_for(lambda: not any(map(alive, family)))


def test_nothing_to_score(release):
    recordings = find_recordings(release)
    people = read_participants(release)
    rest = recordings[recordings["task"] == "RestingState"]
    with pytest.raises(UserError, match="score: no recording of contrastChangeDetection is there"):
        local_score(written(), rest, people)


def test_age_and_sex_of_other_subjects(scored):
    random = np.random.default_rng(0)
    ages = random.uniform(5, 20, 40)
    people = pd.DataFrame(
        {"subject": [f"s{n}" for n in range(40)], "age": ages, "sex": np.tile([0.0, 1.0], 20)}
    )
    subjects = people["subject"].repeat(3).reset_index(drop=True)
    values = (0.1 * ages).repeat(3) + np.tile([-0.1, 0.0, 0.1], 40)
    found = from_demographics(subjects, values, people, "rt")
    np.testing.assert_allclose(found, (0.1 * ages).repeat(3), atol=1e-6)
    # nothing of a subject's own value is in its prediction
    values[:3] += 100.0
    again = from_demographics(subjects, values, people, "rt")
    np.testing.assert_allclose(again[:3], found[:3], atol=1e-6)
    # two subjects are too few, unless the factor of others is known
    two, of_two = people["subject"][:2], 0.2 * ages[:2]
    assert np.isnan(from_demographics(two, of_two, people[:2], "externalizing")).all()
    known = people.assign(externalizing=0.2 * ages)
    found = from_demographics(two, of_two, known, "externalizing")
    np.testing.assert_allclose(found, of_two, atol=1e-6)
    unknown = pd.DataFrame({"subject": ["a"], "age": [np.nan], "sex": [np.nan]})
    table = scores_table(scored.predictions, scored.targets, unknown, ScoringParams())
    assert list(table["method"].unique()) == ["submission", "mean of the true values"]
