"""Mistakes on the command line end in one clear line, before anything is computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.io import DatasetError

from hbn_foundation import __main__ as entry
from hbn_foundation.cli import cli, one_line, score
from hbn_foundation.errors import UserError
from hbn_foundation.hooks import RunReport
from kedro_project import KedroProject


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    return KedroProject.copy_to(tmp_path_factory.mktemp("project"))


def run(project: KedroProject, *arguments: str) -> str:
    """Run the ingestion pipeline with a mistake; return the one line that it ends with."""
    result = project.kedro("run", *arguments)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("Error: ")
    return errors[0]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("ingestion.windows.secnds=2", ["ingestion.windows.secnds", "did you mean seconds"]),
        ("ingestion.windows.seconds=-1", ["ingestion.windows.seconds=-1", "greater than 0"]),
        ("ingestion.windows.seconds=long", ["ingestion.windows.seconds='long'", "number"]),
        ("ingestion.window.seconds=2", ["ingestion.window", "did you mean ingestion.windows"]),
        ("ingestion.windows=3", ["ingestion.windows: expected a group of parameters, found 3"]),
        ("ingestion.splits.train=0.5", ["ingestion.splits: train + validation + test must be 1"]),
        ("ingestion.splits.seed=True", ["ingestion.splits.seed=True", "no true or false"]),
    ],
)
def test_wrong_parameter(project, params, expected):
    line = run(project, "--pipeline", "ingestion", "--params", params)
    for part in expected:
        assert part in line


def test_project_is_named_from_outside(project, tmp_path):
    def outside(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hbn_foundation", "--project-path", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(project.root / "src")},
        )  # fmt: skip

    command = ["run", "--pipeline", "ingestion", "--nodes", "prepare_source", "--params"]
    result = outside(str(project.root), *command, "ingestion.source.root=nowhere")
    assert result.returncode == 1
    assert "nowhere" in result.stderr
    assert (project.root / "data" / "nowhere" / "runs").is_dir()
    assert not list(tmp_path.iterdir())
    assert "there is no project" in outside(str(tmp_path), *command).stderr


def test_without_a_project_a_mistake_is_one_line(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "hbn_foundation", "embed", "nothing.edf"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (line,) = result.stderr.splitlines()
    assert line.endswith("change into the project's folder, or give --checkpoint")
    assert not result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--pipeline foundatoin", "foundatoin"),
        ("--env nonsense", "conf/nonsense"),
        ("--load-versions foo:1", "foo"),
        ("--pipeline ingestion --nodes clean_signal", "clean_signal"),
        ("--pipeline ingestion --params ingestion.source.root=/no/such/folder", "/no/such/folder"),
        ("--pipeline foundation --from-nodes evaluate_encoder", "nothing saved yet"),
    ],
)
def test_what_is_unknown_or_missing_is_named(project, arguments, expected):
    assert expected in run(project, *arguments.split())


def test_broken_yaml(project):
    path = project.root / "conf" / "local" / "parameters.yml"
    path.write_text("ingestion: [1, 2\n")
    try:
        assert "parameters.yml" in run(project, "--pipeline", "ingestion")
    finally:
        path.unlink()


def test_the_line_of_a_run_is_that_of_the_cause():
    error = DatasetError("Failed while saving")
    error.__cause__ = UserError("disk full")
    assert one_line(error) == "disk full"
    error = DatasetError("Failed while saving")
    error.__context__ = OSError(28, "No space left on device", "data/06_models/best")
    assert one_line(error) == (
        "data/06_models/best: disk full; free some space and go on, what is written already is kept"
    )
    assert one_line(ZeroDivisionError("division by zero")) is None  # it keeps its traceback


@pytest.mark.parametrize("option", ["max-subjects", "batch-size", "memory", "window-seconds"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_count_of_zero_is_no_count_left_out(option, value):
    given = ["submission.zip", "--bids-root", "nowhere", f"--{option}", value]
    result = CliRunner().invoke(score, given)
    assert result.exit_code == 1
    assert f"{option.split('-')[-1]}" in result.output
    assert f"={float(value):g}" in result.output.replace(".0", "")


@pytest.mark.parametrize("arguments", [["registry.py", "--repeats", "0"],
                                       ["window_reading.py", "--minutes", "-1"]])  # fmt: skip
def test_benchmarks_refuse_counts_of_nothing(arguments):
    script = Path(__file__).parents[1] / "benchmarks" / arguments[0]
    command = [sys.executable, script, *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{arguments[1]}: {arguments[2]}: expected a" in done.stderr


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_ends_any_command_in_one_line(monkeypatch, capsys, before):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if before:  # while packages are imported
        monkeypatch.setattr(entry, "_run", interrupted)
    else:
        monkeypatch.setattr(cli, "invoke", interrupted)
    monkeypatch.setattr(sys, "argv", ["/bin/hbn-foundation", "parameters", "--env", "a b"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    said = "Stopped by SIGINT; this begins again: hbn-foundation parameters --env 'a b'"
    assert capsys.readouterr().err.strip() == said


@pytest.mark.parametrize("path", ["/bin/kedro", "/lib/kedro/__main__.py"])
def test_a_run_that_is_stopped_before_it_began_is_named_as_it_was_typed(monkeypatch, path):
    monkeypatch.setattr(sys, "argv", [path, "run", "--pipeline", "ingestion"])
    assert RunReport().again() == "kedro run --pipeline ingestion"
