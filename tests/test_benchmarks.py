"""Benchmarks measure the package as it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WATCHED = """
import runpy, sys
told = []
def note(event, given):
    if event == "import" and given[0] == "torch" and not told:
        told.append("hbn_foundation" in sys.modules)
sys.addaudithook(note)
sys.path.insert(0, sys.argv[1])
runpy.run_path(f"{sys.argv[1]}/{sys.argv[2]}.py", run_name="imported")
print(told)
"""


@pytest.mark.parametrize("name", ["supervision", "pretraining_speed"])
def test_torch_comes_after_the_package_that_sets_its_threads(name):
    """As in a supervised child; the other side of a comparison would else run other threads."""
    command = [sys.executable, "-c", WATCHED, str(BENCHMARKS), name]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[True]"
