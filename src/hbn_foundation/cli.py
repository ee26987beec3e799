"""`kedro run` of this project: the same command, whose mistakes end in one line.

Kedro takes commands of this module before its own.
"""

import copy
import errno
import re
import sys
from pathlib import Path
from typing import Any

import click
from kedro.config import BadConfigException, MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetNotFoundError
from kedro.utils import find_kedro_project
from kedro.validation.exceptions import ParameterValidationError
from yaml import YAMLError

from hbn_foundation.bases_cli import bases
from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision.supervisor import TrainingStopped, stopped_at_once

WRONG_CONFIGURATION = (BadConfigException, DatasetNotFoundError, MissingConfigException, YAMLError)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEDRO_NAMES_IT = ("Failed to find the pipeline", "Pipeline")


@click.group(name="hbn-foundation")
def cli() -> None:
    """Commands of the project."""


def _run(**options: Any) -> Any:
    """Run the pipeline; print a mistake of the user in one line and leave with status 1."""
    if kedro_run.callback is None:
        raise RuntimeError("kedro run has no callback; this version of Kedro is not supported")
    if find_kedro_project(Path.cwd()) is None:
        click.secho(f"Error: {Path.cwd()} lies in no project", fg="red", err=True)
        sys.exit(1)
    try:
        with stopped_at_once():
            return kedro_run.callback(**options)
    except Exception as error:
        line = one_line(error)
        stopped = stop_signal(error)
        if stopped is not None:
            click.echo(line, err=True)
            sys.exit(128 + stopped)
        if line is None:
            raise
        click.secho(f"Error: {line}", fg="red", err=True)
        sys.exit(1)


def one_line(error: BaseException) -> str | None:
    """Return the one line to print for a user's mistake, None for any other error.

    Parameters
    ----------
    error
        What ended the run; a `UserError` may lie below an error of Kedro's.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            place = f"{cause.filename}: " if cause.filename else ""
            return f"{place}disk full; free some space and go on, what is written already is kept"
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    if isinstance(error, ParameterValidationError):
        return _parameters(str(error)) or text
    named = isinstance(error, ValueError) and text.startswith(KEDRO_NAMES_IT)
    return text if named or isinstance(error, WRONG_CONFIGURATION) else None


def stop_signal(error: BaseException) -> int | None:
    """Return the signal that asked for the end, where an error says so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TrainingStopped):
            return cause.signal_number
        cause = cause.__cause__ or cause.__context__
    return None


def _parameters(text: str) -> str:
    """Shorten Kedro's list of wrong parameters to `group.key: what is wrong`."""
    found = re.findall(r"- Parameter '([\w.]+)': (?:Failed to instantiate .*?: )?(.+)", text)
    return "; ".join(
        f"{group}.{what}" if re.match(r"[\w.]+=", what) else f"{group}: {what}"
        for group, what in found
    )


@cli.command()
def parameters() -> None:
    """Print the reference of all parameters."""
    from hbn_foundation.pipeline_registry import register_pipelines
    from hbn_foundation.pipelines.reference import parameter_groups, reference_page

    click.echo(reference_page(parameter_groups(register_pipelines())), nl=False)


@cli.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="A data folder or that of a run; by default the project's data.",
)
@click.option("--once", is_flag=True, help="Show it once and leave.")
def monitor(folder: Path | None, once: bool) -> None:
    """Show the running or the last training, each second anew until Ctrl-C."""
    from hbn_foundation.training.supervision import monitor as watching

    project = find_kedro_project(Path.cwd()) or Path.cwd()
    try:
        watching.monitor(folder or project / "data", once)
    except UserError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)


@cli.command()
@click.argument("submission", type=click.Path(path_type=Path))
@click.option("--bids-root", required=True, help="The release: a folder or an fsspec URL.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("local_score"),
    show_default=True,
    help="Folder for the scores and predictions.",
)
@click.option("--max-subjects", type=int, help="Only so many subjects, the first in order.")
@click.option("--task", "tasks", multiple=True, help="Task of challenge 2; may be repeated.")
@click.option("--factor", help="Factor of challenge 2; by default externalizing.")
@click.option("--batch-size", type=int, help="Windows at once; by default 1, as the challenge.")
@click.option("--memory", type=float, help="Most memory in MB.")
@click.option("--window-seconds", type=float, help="Most time per window, on average.")
@click.option("--device", help="Device of the models; by default the CPU.")
@click.option("--python", help="Interpreter to run it with, such as one with torch 2.2.")
def score(submission: Path, bids_root: str, output: Path, **given: Any) -> None:
    """Score a submission's zip on a release, as the challenge does.

    A submission is a program. It runs in a process of its own with limits on memory and time, but
    with your rights: score only what you would run.
    """
    from hbn_foundation.submission.params import ScoringParams
    from hbn_foundation.submission.scoreboard import save_score, score_text
    from hbn_foundation.submission.scoring import score_release

    chosen = {name: value for name, value in given.items() if value}
    names = {"memory": "memory_megabytes", "window_seconds": "window_seconds", "device": "device",
             "python": "python"}  # fmt: skip
    limits = {names[name]: chosen.pop(name) for name in names if name in chosen}
    if "tasks" in chosen:
        chosen["challenge2_tasks"] = chosen.pop("tasks")
    try:
        params = ScoringParams.model_validate({**chosen, "limits": limits})
        result = score_release(submission, bids_root, params)
        click.echo(score_text(result), nl=False)
        save_score(result, output)
    except UserError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)


run = copy.copy(kedro_run)
run.callback = _run
cli.add_command(run)
cli.add_command(bases)
