"""Jobs in other processes find the stand-in."""

import os
from pathlib import Path

import pytest

from hbn_foundation.sweeps import running

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


@pytest.fixture(autouse=True, scope="module")
def no_server_stays():
    yield
    running.close_servers()
