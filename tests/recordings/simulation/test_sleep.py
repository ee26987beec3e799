"""Simulated nights: stages that follow cycles, an EEG that shows them, files that readers take."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest

from hbn_foundation.recordings.find import prepare
from hbn_foundation.recordings.params import SourceParams
from hbn_foundation.recordings.simulation.params import SleepParams
from hbn_foundation.recordings.simulation.sleep import EPOCH, STAGES, draw_hypnogram, draw_sleepers


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    params = {"n_subjects": 3, "minutes": 20, "cycles": 2, "n_background_sources": 10, "n_jobs": 1}
    root = str(tmp_path_factory.mktemp("sleep") / "nights")
    return prepare(SourceParams.model_validate({"simulated_root": root, "sleep": params}))["root"]


def night(root: str, subject: str) -> tuple[np.ndarray, pd.DataFrame]:
    name = f"{root}/sub-{subject}/eeg/sub-{subject}_task-sleep"
    raw = mne.io.read_raw_bdf(f"{name}_eeg.bdf", verbose="error")
    data = raw.get_data(["C3", "O1", "Fp1"]) * 1e6
    return data.reshape(3, -1, EPOCH * 100), pd.read_csv(f"{name}_events.tsv", sep="\t")


def test_hypnograms_begin_awake_and_go_through_cycles():
    params = SleepParams()
    subjects = draw_sleepers(params)
    drawn = np.array([draw_hypnogram(one, params, np.random.default_rng(number))
                      for number, (_, one) in enumerate(subjects.iterrows())])  # fmt: skip
    assert drawn.shape == (24, 120)
    assert (drawn[:, :2] == STAGES.index("W")).all()
    shares = dict(zip(STAGES, np.bincount(drawn.ravel(), minlength=5) / drawn.size, strict=True))
    assert 0.3 < shares["N2"] < 0.55
    assert all(0.04 < shares[name] < 0.3 for name in ("W", "N1", "N3", "R"))
    # deep sleep is early in the night, REM sleep late and not entered from it
    halves = np.array([np.bincount(half.ravel(), minlength=5) for half in np.hsplit(drawn, 2)])
    assert halves[0, 3] > 1.3 * halves[1, 3]
    assert halves[1, 4] > 1.3 * halves[0, 4]
    assert not ((drawn[:, :-1] == 3) & (drawn[:, 1:] == 4)).any()
    assert (drawn[:, 1:] == drawn[:, :-1]).mean() > 0.75


def test_stages_are_written_and_seen_in_the_eeg(nights):
    power: dict[tuple[str, int, int], list[float]] = {}
    for subject in ("SLEEP01", "SLEEP02", "SLEEP03"):
        data, events = night(nights, subject)
        assert events["onset"].tolist() == list(range(0, 20 * 60, EPOCH))
        assert set(events["duration"]) == {EPOCH}
        spectra, f = mne.time_frequency.psd_array_welch(data, 100, n_fft=400, verbose="error")
        for low, high in ((0, 2), (8, 12)):
            band = spectra[..., (f > low) & (f <= high)].sum(-1)
            for stage, part in events.groupby("trial_type"):
                for channel in range(3):
                    values = power.setdefault((str(stage), low, channel), [])
                    values += band[channel, part.index].tolist()
    median = {key: np.median(values) for key, values in power.items()}
    assert median["N3", 0, 0] > 1.8 * median["N2", 0, 0]
    assert median["N2", 0, 0] > 1.8 * median["R", 0, 0]
    assert median["W", 8, 1] > 4 * median["N2", 8, 1]


def test_nights_are_made_once_and_are_not_the_release(nights, tmp_path):
    from hbn_foundation.recordings.simulation.release import simulation_hash

    first = SleepParams()
    assert simulation_hash(first) == simulation_hash(SleepParams(n_jobs=7))
    assert simulation_hash(first) != simulation_hash(SleepParams(seed=1))
    people = pd.read_csv(f"{nights}/participants.tsv", sep="\t")
    assert list(people["participant_id"]) == [f"sub-SLEEP0{n}" for n in (1, 2, 3)]
