"""Subjects, trials and events of the simulated release, against the real ones."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.recordings.simulation import behaviour
from hbn_foundation.recordings.simulation.params import SimulationParams
from hbn_foundation.recordings.simulation.subjects import draw_subjects, participants_table

PRESSES = ("left_buttonPress", "right_buttonPress")


@pytest.fixture(scope="module")
def default_runs() -> list[behaviour.Run]:
    """All task runs of the default release, without signals."""
    return runs_of(SimulationParams())


def runs_of(params: SimulationParams) -> list[behaviour.Run]:
    subjects = draw_subjects(params)
    out = []
    for number in range(len(subjects)):
        for run in range(1, params.ccd_runs + 1):
            rng = np.random.default_rng([params.seed, 1, number, run])
            made = behaviour.draw_contrast_run(subjects.iloc[number], run, params, rng)
            made.trials["subject"] = number
            out.append(made)
    return out


def answered_trials(runs: list[behaviour.Run]) -> pd.DataFrame:
    trials = pd.concat([run.trials for run in runs])
    return trials[trials["answered"]]


def trials_from_events(events: pd.DataFrame) -> pd.DataFrame:
    """Read trials back from events by HBN's rules, apart from the code that wrote them."""
    onset, value = events["onset"].astype(float).to_numpy(), events["value"].to_numpy()
    starts = np.flatnonzero(value == "contrastTrial_start")
    rows = []
    for first, last in itertools.pairwise(starts):
        targets = [i for i in range(first, last) if value[i].endswith("_target")]
        if not targets:
            continue
        presses = [i for i in range(targets[0], last) if value[i] in PRESSES]
        row = {"onset": onset[targets[0]], "n_presses": len(presses), "rt": np.nan}
        row["early"] = sum(value[i] in PRESSES for i in range(first, targets[0]))
        if presses:
            row["rt"] = onset[presses[0]] - onset[targets[0]]
            row["face"] = events["feedback"].iloc[presses[0]]
            row["later"] = set(events["feedback"].iloc[presses[1:]])
        rows.append(row)
    return pd.DataFrame(rows)


def test_response_times_are_spread_as_asked(default_runs):
    trials = answered_trials(default_runs)
    assert len(trials) > 600
    assert trials["rt"].mean() == pytest.approx(1.6, abs=0.04)
    assert trials["rt"].std(ddof=0) == pytest.approx(0.4, abs=0.035)
    assert draw_subjects(SimulationParams())["rt_mean"].std() == pytest.approx(0.2, abs=0.02)
    assert -0.9 < trials["rt"].skew() < -0.2
    assert trials["rt"].between(0.2, 2.4).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_rates_are_those_of_the_real_runs(seed):
    runs = runs_of(SimulationParams(seed=seed, trials_per_run=60, ccd_runs=3))
    read = pd.concat([trials_from_events(run.events) for run in runs])
    answered = read[read["n_presses"] > 0]
    assert (read["n_presses"] == 0).mean() == pytest.approx(0.152, abs=0.02)
    assert (answered["n_presses"] > 1).mean() == pytest.approx(0.067, abs=0.015)
    assert (answered["face"] == "smiley_face").mean() == pytest.approx(0.875, abs=0.04)
    assert (read["early"] > 0).mean() == pytest.approx(0.137, abs=0.015)
    values = [set(run.events["value"]) for run in runs]
    assert np.mean(["9999" in v for v in values]) > 0.95
    assert 0.1 < np.mean(["video_start" in v for v in values]) < 0.35


def test_events_tell_the_same_trials_as_the_truth(default_runs):
    for run in default_runs:
        read = trials_from_events(run.events)
        truth = run.trials
        assert np.allclose(read["onset"], truth["onset"], atol=0.0011)
        assert np.allclose(read["rt"], truth["rt"], atol=0.0021, equal_nan=True)
        assert (read["n_presses"] == truth["n_presses"]).all()
        faces = read.loc[truth["answered"].to_numpy(), "face"]
        assert (faces.eq("smiley_face") == truth.loc[truth["answered"], "correct"].to_numpy()).all()
        assert set().union(*read["later"].dropna()) <= {"non_target"}
        assert float(run.events["onset"].iloc[-1]) < run.seconds
        assert (run.events["duration"] == "n/a").all()


def test_events_use_the_real_vocabulary(default_runs, hbn_metadata_root):
    names = ["value", "event_code", "feedback"]
    pattern = "ds005505/sub-*/eeg/*contrastChangeDetection*_events.tsv"
    real: set[tuple[str, ...]] = set()
    for path in hbn_metadata_root.glob(pattern):
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        if "feedback" in table:
            real |= set(table[names].itertuples(index=False, name=None))
    simulated = pd.concat([run.events for run in default_runs])
    assert list(simulated.columns) == ["onset", "duration", "sample", *names]
    assert set(simulated[names].itertuples(index=False, name=None)) <= real


def test_rest_uses_the_real_vocabulary(hbn_metadata_root):
    path = next(hbn_metadata_root.glob("*/sub-*/eeg/*RestingState_events.tsv"))
    real = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    run = behaviour.draw_rest(SimulationParams(), np.random.default_rng(0))
    assert list(run.events.columns) == list(real.columns)
    pairs = ["value", "event_code"]
    told = set(real[pairs].itertuples(index=False, name=None))
    assert set(run.events[pairs].itertuples(index=False, name=None)) <= told
    closing = run.events.loc[run.events["value"] == "instructed_toCloseEyes", "onset"].astype(float)
    assert np.allclose(closing, [start for start, _ in run.eyes_closed], atol=0.002)


def test_participants_have_the_real_columns(hbn_metadata_root):
    params = SimulationParams()
    table = participants_table(draw_subjects(params), params)
    real = pd.read_csv(hbn_metadata_root / "ds005505" / "participants.tsv", sep="\t")
    assert list(table.columns) == list(real.columns)
    assert table["participant_id"].is_unique
    assert set(table["sex"]) == {"F", "M"}
    factors = table[["p_factor", "attention", "internalizing", "externalizing"]]
    unknown = factors.eq("n/a")
    assert (unknown.all(axis=1) == unknown.any(axis=1)).all()
    assert 1 <= unknown.all(axis=1).sum() <= 3
    assert {"R5", "R12"} < set(table["release_number"])


def test_latent_time_is_the_whole_of_what_can_be_known():
    rng = np.random.default_rng(3)
    latent, seen = behaviour.response_times(1.6, 20_000, SimulationParams(), rng)
    delay = seen - latent
    inside = (latent > 0.8) & (latent < 2.0)
    assert abs(np.corrcoef(latent[inside], delay[inside])[0, 1]) < 0.03
    assert np.var(latent) / np.var(seen) == pytest.approx(0.85, abs=0.06)
    latent, seen = behaviour.response_times(
        1.6, 20_000, SimulationParams(rt_follows="subject"), rng
    )
    assert abs(np.corrcoef(latent, seen)[0, 1]) < 0.03


def test_times_of_subjects_alone_show_no_subject_in_the_signal():
    params = SimulationParams(rt_follows="subject", trials_per_run=60)
    trials = pd.concat([run.trials for run in runs_of(params)])
    by_subject = trials.groupby("subject")[["latent_rt", "rt"]].mean()
    assert by_subject["latent_rt"].std() < 0.06 < 0.15 < by_subject["rt"].std()
    assert (trials["oracle_rt"] == params.rt_mean).all()
