"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os

# Small models: a second thread costs more than it brings. Before torch is imported, and for the
# processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hbn_foundation.recordings.simulation.params import SimulationParams

PROJECT = Path(__file__).parents[1]
WITH_PROCESSES = ("tests/pipelines", "tests/notebooks", "tests/test_cli", "tests/test_hooks",
                  "tests/training/supervision", "tests/training/test_supervised",
                  "tests/training/test_device", "tests/training/test_resuming")  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each file's tests on one worker, and all that start processes on the same one.

    Tests that wait for silence or kill at a moment would disturb each other on two cores. They
    take longest, so they begin.
    """

    def home(item: pytest.Item) -> str:
        return item.path.relative_to(PROJECT).as_posix()

    items.sort(key=lambda item: not home(item).startswith(WITH_PROCESSES))
    for item in items:
        group = "processes" if home(item).startswith(WITH_PROCESSES) else home(item)
        item.add_marker(pytest.mark.xdist_group(group))


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
