"""The small data set, and scripts as processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from small_data import data, short_run, splits, store, windows  # noqa: F401


@pytest.fixture
def started():
    """Start scripts as processes; none is left behind."""
    processes = []

    def start(*arguments):
        command = [sys.executable, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
