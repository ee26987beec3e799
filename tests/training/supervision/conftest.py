"""Runs of the stand-in, each in a folder of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import stand_in

from hbn_foundation.training.supervision.run_folder import RunFolder

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let the child import the stand-in, and the package from where this process has it."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run", {"seed": 0})
    yield folder
    folder.close()


@pytest.fixture
def start(tmp_path, started):
    """Start whole runs, parent and child, as processes."""
    return lambda **options: started(stand_in.__file__, tmp_path / "runs", json.dumps(options))
