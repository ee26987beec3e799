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
    made = []
    for number, run in itertools.product(range(len(subjects)), range(1, params.ccd_runs + 1)):
        rng = np.random.default_rng([params.seed, 1, number, run])
        made.append(behaviour.draw_contrast_run(subjects.iloc[number], run, params, rng))
        made[-1].trials["subject"] = number
    return made


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
    trials = pd.concat([run.trials for run in default_runs]).query("answered")
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
        read, truth = trials_from_events(run.events), run.trials
        assert np.allclose(read["onset"], truth["onset"], atol=0.0011)
        assert np.allclose(read["rt"], truth["rt"], atol=0.0021, equal_nan=True)
        assert (read["n_presses"] == truth["n_presses"]).all()
        faces = read.loc[truth["answered"].to_numpy(), "face"]
        assert (faces.eq("smiley_face") == truth.loc[truth["answered"], "correct"].to_numpy()).all()
        assert set().union(*read["later"].dropna()) <= {"non_target"}
        assert float(run.events["onset"].iloc[-1]) < run.seconds
        assert (run.events["duration"] == "n/a").all()


def test_events_use_the_real_vocabulary(default_runs, hbn_metadata_root):
    rest = behaviour.draw_rest(SimulationParams(), np.random.default_rng(0))
    for task, runs in (("contrastChange", default_runs), ("RestingState", [rest])):
        paths = hbn_metadata_root.glob(f"*/sub-*/eeg/*{task}*_events.tsv")
        tables = [pd.read_csv(p, sep="\t", dtype=str, keep_default_na=False) for p in paths]
        real = pd.concat(tables)
        simulated = pd.concat([run.events for run in runs])
        names = [name for name in ("value", "event_code", "feedback") if name in simulated]
        assert list(simulated.columns) == ["onset", "duration", "sample", *names]
        told = set(real[names].itertuples(index=False, name=None))
        assert set(simulated[names].itertuples(index=False, name=None)) <= told
    closing = rest.events.loc[rest.events["value"] == "instructed_toCloseEyes", "onset"]
    assert np.allclose(closing.astype(float), [s for s, _ in rest.eyes_closed], atol=0.002)


def test_participants_have_the_real_columns(hbn_metadata_root):
    params = SimulationParams()
    table = participants_table(draw_subjects(params), params)
    real = pd.read_csv(hbn_metadata_root / "ds005505" / "participants.tsv", sep="\t")
    assert list(table.columns) == list(real.columns)
    assert table["participant_id"].is_unique
    assert set(table["sex"]) == {"F", "M"}
    unknown = table[["p_factor", "attention", "internalizing", "externalizing"]].eq("n/a")
    assert (unknown.all(axis=1) == unknown.any(axis=1)).all()
    assert 1 <= unknown.all(axis=1).sum() <= 3
    assert {"R5", "R12"} < set(table["release_number"])


def test_latent_time_is_the_whole_of_what_can_be_known():
    rng = np.random.default_rng(3)
    latent, seen = behaviour.response_times(1.6, 20_000, SimulationParams(), rng)
    inside = (latent > 0.8) & (latent < 2.0)
    assert abs(np.corrcoef(latent[inside], (seen - latent)[inside])[0, 1]) < 0.03
    assert np.var(latent) / np.var(seen) == pytest.approx(0.85, abs=0.06)
    params = SimulationParams(rt_follows="subject", trials_per_run=60)
    latent, seen = behaviour.response_times(1.6, 20_000, params, rng)
    assert abs(np.corrcoef(latent, seen)[0, 1]) < 0.03
    trials = pd.concat([run.trials for run in runs_of(params)])
    by_subject = trials.groupby("subject")[["latent_rt", "rt"]].mean()
    assert by_subject["latent_rt"].std() < 0.06 < 0.15 < by_subject["rt"].std()
    assert (trials["oracle_rt"] == behaviour.RT_MEAN).all()
