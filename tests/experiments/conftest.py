"""Jobs in other processes find the stand-in."""

import os
from pathlib import Path

import pytest

from hbn_foundation.experiments import worker

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Twelve subjects of two tasks."""
    from fold_data import make_dataset

    return make_dataset(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


@pytest.fixture(autouse=True)
def servers_outlive_an_experiment(monkeypatch):
    """One fork server for all tests of a file."""
    monkeypatch.setattr("hbn_foundation.experiments.executors.close_servers", lambda: None)


@pytest.fixture(autouse=True, scope="module")
def no_server_stays():
    yield
    worker.close_servers()
