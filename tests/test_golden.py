"""Figures of small runs are those recorded, and what moves is named."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def golden(monkeypatch):
    """Import the script; its folder does not stay in the path, as other tests have its names."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("golden")


@pytest.mark.parametrize(
    "parts", [["--fast"], pytest.param(["--only", "release", "eegmat"], marks=pytest.mark.slow)]
)
def test_figures_are_those_recorded(golden, monkeypatch, capsys, parts):
    """Of the fast parts, and of whole runs."""
    monkeypatch.setattr(sys, "argv", ["golden.py", "compare", *parts])
    assert golden.main() == 0, capsys.readouterr().out


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
