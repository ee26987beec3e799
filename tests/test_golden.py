"""Figures of small runs are those recorded, and what moves is named."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def compare(*arguments: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "golden.py"), "compare", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_figures_of_the_fast_parts_are_those_recorded():
    compare("--fast")


@pytest.mark.slow
def test_figures_of_whole_runs_are_those_recorded():
    compare("--only", "release", "eegmat")


@pytest.fixture
def golden(monkeypatch):
    """Import the script; its folder does not stay in the path, as other tests have its names."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("golden")


@pytest.mark.parametrize(
    ("found", "accepted", "here", "different"),
    [
        ({"a/b": 0.50005, "exact/c": "0f"}, {}, "here", []),
        ({"a/b": 0.501, "exact/c": "0f"}, {}, "here", ["a/b"]),
        ({"a/b": 0.501, "exact/c": "0e"}, {}, "elsewhere", []),
        ({"a/b": 0.5, "exact/c": "0e"}, {}, "here", ["exact/c"]),
        ({"a/b": None, "exact/c": "0f", "new": 1}, {}, "here", ["a/b"]),
        ({"exact/c": "0f"}, {}, "here", ["a/b"]),
        ({"a/d": 0.5, "exact/c": "0f"}, {"renamed": {"b": "d"}}, "here", []),
        ({"a/b": 0.7, "exact/c": "0f"}, {"changed": {"a/b": 0.7}}, "here", []),
        ({"exact/c": "0f"}, {"removed": {"a/": "not wanted"}}, "here", []),
    ],
)
def test_what_differs_is_named(golden, found, accepted, here, different):
    recorded = {
        "machine": "here",
        "tolerance": golden.TOLERANCE,
        "accepted": accepted,
        "expected": {"a/b": 0.5, "exact/c": "0f"},
    }
    assert list(golden.differences(recorded, found, here)) == different
