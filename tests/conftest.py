"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os

# Small models: a second thread costs more than it brings. Before torch is imported, and for the
# processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from hbn_foundation.recordings.simulation.params import SimulationParams

PROJECT = Path(__file__).parents[1]
hypothesis.settings.register_profile("project", deadline=None)  # on a busy machine
hypothesis.settings.load_profile("project")


def _data(variable: str, folder: str) -> Path:
    root = Path(os.environ.get(variable) or PROJECT.parent / "shared" / "data" / folder)
    if not root.is_dir():
        pytest.skip(f"{folder} is not here: set {variable} to its folder")
    return root


@pytest.fixture(scope="session")
def eegmat_root() -> Path:
    """Real EEG in BIDS: 20 subjects, rest and mental arithmetic, EDF."""
    return _data("EEGMAT_ROOT", "eegmat")


@pytest.fixture(scope="session")
def hbn_metadata_root() -> Path:
    """The real text files of five HBN-EEG releases, without signals."""
    return _data("HBN_METADATA_ROOT", "hbn-metadata")


@pytest.fixture(scope="session")
def tiny_bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated release: 6 subjects, each with 24 s of rest and a task run of 4 targets."""
    from hbn_foundation.recordings.simulation.release import simulate_release

    return simulate_release(tmp_path_factory.mktemp("simulated") / "tiny", tiny_simulation())


@pytest.fixture(scope="session")
def subject_only_bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated release whose response times follow the subject, with nothing in the EEG of it.

    Held-out subjects can be predicted no better than by a constant; who recognises a subject by
    its EEG and knows other trials of it does far better.
    """
    from hbn_foundation.recordings.simulation.release import simulate_release

    params = tiny_simulation(
        n_subjects=20, rest_seconds=6.0, eyes_open_seconds=2.0, eyes_closed_seconds=2.0,
        trials_per_run=12, n_background_sources=30, rt_follows="subject", rt_subject_sd=0.35,
        bad_channel_share=0.0,
    )  # fmt: skip
    return simulate_release(tmp_path_factory.mktemp("simulated") / "subject_only", params)


def tiny_simulation(**changes: object) -> SimulationParams:
    """Return the parameters of `tiny_bids`, with changes."""
    from hbn_foundation.recordings.simulation.params import SimulationParams

    small = {
        "n_subjects": 6,
        "rest_seconds": 24.0,
        "eyes_open_seconds": 5.0,
        "eyes_closed_seconds": 6.0,
        "ccd_runs": 1,
        "trials_per_run": 4,
        "n_background_sources": 60,
        "n_truncated": 0,
        "n_jobs": 1,
    }
    return SimulationParams.model_validate(small | changes)


@pytest.fixture(scope="module")
def forked_trainings():
    """Trainings of this module begin at once, in processes that have everything imported."""
    import warm

    with warm.forked_trainings():
        yield


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
