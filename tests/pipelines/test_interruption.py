"""Ctrl-C at any moment: one line with the command that goes on, and nobody left behind."""

from __future__ import annotations

import os
import shlex
import signal
import time
from pathlib import Path

import psutil
import pytest

from kedro_project import SMALL, KedroProject
from processes import alive, wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals go to groups of processes")

SWEEP = """
sweep:
  study:
    participants: 4
    targets: 2
    rules: {min_per_class: 1, gap_seconds: 0.0}
  grid:
    base:
      encoder: {hidden_dim: 32, n_heads: 2, n_layers: 1}
      trainer: {epochs: 500, batch_size: 16}
    finetune:
      plan: {strategy: full}
      trainer: {epochs: 1, batch_size: 4}
  engine: {engine: local, workers: 2}
"""
TRAIN_LONG = "foundation.trainer.epochs=500"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    small = SMALL.replace("n_subjects: 6", "n_subjects: 7").replace("ccd_runs: 1", "ccd_runs: 2")
    text = small.replace("store:\n    n_jobs: 1", "store:\n    n_jobs: 2")
    return KedroProject.copy_to(tmp_path_factory.mktemp("project"), text + SWEEP)


def interrupt(project: KedroProject, arguments: list[str], marker: str, delay: float) -> str:
    """Send SIGINT to the whole group some time after a line was said; return what follows."""
    process = project.start("run", *arguments)
    for line in process.stdout:
        if marker in line:
            break
    else:
        pytest.fail(f"{marker} was never said, status {process.wait()}")
    time.sleep(delay)
    family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(timeout=60) == 128 + signal.SIGINT, said
    wait_for(lambda: not any(map(alive, family)))
    return said


def check(said: str) -> str:
    """Make sure that the end is one line without noise; return the command in it."""
    *before, last = said.strip().splitlines()
    assert last.startswith("Stopped by SIGINT"), said
    _, found, command = last.partition(": kedro run ")
    assert found
    noise = ("Traceback", "Error", "Exception", "Interrupt", "distributed", "Stopped", "resource")
    assert not [line for line in before if any(word in line for word in noise)], said
    return command


def test_ingestion_that_is_interrupted_goes_on_by_the_command_it_names(project):
    arguments = ["--pipeline", "ingestion", "--to-nodes", "clean_signals"]
    command = check(interrupt(project, arguments, "] clean_signals", 0.7))
    expected = "--pipeline ingestion --from-nodes clean_signals --to-nodes clean_signals"
    assert command == expected
    project.run(*shlex.split(command))


MOMENTS = [
    (["--pipeline", "ingestion", "--params", "ingestion.source.simulation.seed=7"],
     "] prepare_source", (0.0, 1.0)),
    (["--pipeline", "ingestion", "--params", "ingestion.cleaning.l_freq=0.7"],
     "] clean_signals", (0.0, 0.5)),
    (["--pipeline", "foundation", "--params", TRAIN_LONG], "] pretrain", (0.0, 1.5, 4.0)),
    (["--pipeline", "sweep"], "] train_bases", (0.5, 2.5, 6.0)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "marker", "delay"),
    [(given, marker, delay) for given, marker, delays in MOMENTS for delay in delays],
)
def test_the_end_is_one_line_at_any_moment(project, arguments, marker, delay):
    if not list(Path(project.root).glob("data/**/windows.parquet")):
        assert project.kedro("run", "--pipeline", "ingestion").returncode == 0
    check(interrupt(project, arguments, marker, delay))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.6])  # evaluations of so few windows are short
def test_an_evaluation_that_is_interrupted_goes_on(project, delay):
    if not list(Path(project.root).glob("data/**/foundation_checkpoint")):
        assert project.kedro("run", "--pipeline", "foundation").returncode == 0
    arguments = ["--pipeline", "foundation", "--from-nodes", "evaluate_encoder"]
    command = check(interrupt(project, arguments, "] evaluate", delay))
    # a fast machine may be a node further by then
    later = ("cross_validate_encoder", "draw_figures", "report") if delay else ()
    assert command.split()[:3] == ["--pipeline", "foundation", "--from-nodes"]
    assert command.split()[3] in ("evaluate_encoder", *later)
