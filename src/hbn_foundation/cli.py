"""`kedro run` of this project: the same command, whose mistakes end in one line.

Kedro takes commands of this module before its own.
"""

import copy
import json
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from kedro.config import BadConfigException, MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.context import KedroContext
from kedro.io import DatasetNotFoundError
from kedro.validation.exceptions import ParameterValidationError
from yaml import YAMLError

from hbn_foundation.errors import UserError, causes, mistake, typed_command
from hbn_foundation.files import is_full_disk
from hbn_foundation.model_commands import embed, export, predict, stream
from hbn_foundation.progress import log_file
from hbn_foundation.project import Group, log_as_configured, newest, open_project, project_folder
from hbn_foundation.settings import REPORT
from hbn_foundation.training.supervision.supervisor import TrainingStopped, stopped_at_once

WRONG_CONFIGURATION = (
    BadConfigException,
    DatasetNotFoundError,
    MissingConfigException,
    ParameterValidationError,
    YAMLError,
)
LOGS = "logs"
DEFAULT = "foundation"  # what `kedro run` runs when no pipeline is named
KEDRO_NAMES_IT = ("Failed to find the pipeline", "Pipeline")


@click.group(name="hbn-foundation", cls=Group)
def cli() -> None:
    """Commands of the project; hbn-foundation --project-path FOLDER … runs them from outside."""


def _run(**options: Any) -> Any:
    """Run the pipeline; print a mistake of the user in one line and leave with status 1."""
    if kedro_run.callback is None:
        raise RuntimeError("kedro run has no callback; this version of Kedro is not supported")
    names = [options["pipeline"]] if options.get("pipeline") else options.get("pipelines")
    log = f"{'-'.join(names or [DEFAULT])}.log"
    with ExitStack() as stack:
        written: logging.Logger | None = None
        try:
            project = project_folder()
            log_as_configured(project)
            written = stack.enter_context(log_file(project / LOGS / log, typed_command()))
            with stopped_at_once():
                return kedro_run.callback(**options)
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
            stopped = mistake(error)
            lines, status = [f"Error: {line}"], 1
            if isinstance(stopped, TrainingStopped):
                lines, status = [f"{line}: {REPORT.again()}"], 128 + stopped.signal_number
            elif (how := REPORT.once_mended()) is not None:
                lines.append(how)
            for text in lines:
                click.secho(text, fg="red" if text.startswith("Error:") else None, err=True)
                if written is not None:
                    written.info(text)
            sys.exit(status)


def one_line(error: BaseException) -> str | None:
    """Return the one line to print for a user's mistake, None for any other error.

    Parameters
    ----------
    error
        What ended the run; a `UserError` may lie below an error of Kedro's.
    """
    found = mistake(error)
    if found is not None:
        return str(found)
    for cause in causes(error):
        if isinstance(cause, OSError) and is_full_disk(cause):
            place = f"{cause.filename}: " if cause.filename else ""
            return f"{place}disk full; free some space and go on, what is written already is kept"
    text = " ".join(str(error).split())
    named = isinstance(error, ValueError) and text.startswith(KEDRO_NAMES_IT)
    return text if named or isinstance(error, WRONG_CONFIGURATION) else None


@cli.command()
@click.option("--pipeline", "-p", help="Only the parameters that this pipeline reads.")
@click.option("--env", "-e", help="The environment whose values are printed.")
def parameters(pipeline: str | None, env: str | None) -> None:
    """Print parameters: name, value in force, default and meaning."""
    from hbn_foundation.pipeline_registry import register_pipelines
    from hbn_foundation.pipelines import reference

    pipelines = register_pipelines()
    if pipeline is not None and pipeline not in pipelines:
        raise UserError(f"--pipeline {pipeline}: expected one of {', '.join(pipelines)}")
    chosen = pipelines if pipeline is None else {pipeline: pipelines[pipeline]}
    with open_project(env) as project:
        groups = reference.parameter_groups(chosen)
        click.echo(reference.values_text(groups, project.config_loader["parameters"]), nl=False)


@cli.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="A data folder or that of a run; by default the project's data.",
)
@click.option("--once", is_flag=True, help="Show it once and leave.")
def monitor(folder: Path | None, once: bool) -> None:
    """Show the running or the last training, each second anew until Ctrl-C."""
    from hbn_foundation.training.supervision import monitor as view

    view.monitor(folder or project_folder() / "data", once)


@cli.command()
@click.argument("submission", type=click.Path(path_type=Path), required=False)
@click.option(
    "--bids-root",
    help="The release: a folder or an fsspec URL; by default what the project's newest run read.",
)
@click.option("--env", "-e", help="Environment whose newest submission and release are taken.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for the scores and predictions; by default local_score.",
)
@click.option("--max-subjects", type=int, help="Only so many subjects, the first in order.")
@click.option(
    "--task", "challenge2_tasks", multiple=True, help="Task of challenge 2; may be repeated."
)
@click.option("--factor", help="Factor of challenge 2; by default externalizing.")
@click.option("--batch-size", type=int, help="Windows at once; by default 1, as the challenge.")
@click.option("--memory", "memory_megabytes", type=float, help="Most memory in MB.")
@click.option("--window-seconds", type=float, help="Most time per window, on average.")
@click.option("--device", help="Device of the models; by default the CPU.")
@click.option("--python", help="Interpreter to run it with, such as one with torch 2.2.")
def score(
    submission: Path | None,
    bids_root: str | None,
    env: str | None,
    output: Path | None,
    **given: Any,
) -> None:
    """Score a submission's zip on a release, as the challenge does.

    Without a zip, the newest one of the project is scored. A submission is a program. It runs in a
    process of its own with limits on memory and time, but with your rights: score only what you
    would run.
    """
    from hbn_foundation.submission.params import LimitParams, ScoringParams
    from hbn_foundation.submission.scoreboard import save_score, score_text
    from hbn_foundation.submission.scoring import score_release

    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    limits = {name: chosen.pop(name) for name in LimitParams.model_fields if name in chosen}
    params = ScoringParams.model_validate({**chosen, "limits": limits})
    place = Path(output or "local_score")
    cache = {}
    if submission is None or bids_root is None:
        with open_project(env) as project:
            here = project.project_path
            place = output or here / "local_score"
            made_by = f"kedro run --pipeline submission{f' --env {env}' if env else ''}"
            submission = submission or newest(project, "submission", made_by)
            if not submission.exists():  # as "Next:" names it, from the project's folder
                submission = here / submission
            bids_root = bids_root or _release(project)
            source = project.config_loader["parameters"]["ingestion"]["source"]
            cache = {"cache": str(here / source["cache"])}
        click.echo(f"Scoring {submission} on {bids_root}", err=True)
    result = score_release(submission, bids_root, params, **cache)
    click.echo(score_text(result), nl=False)
    save_score(result, place)


def _release(project: KedroContext) -> str:
    """Return the BIDS root that the project's newest run has read."""
    made_by = "kedro run --pipeline ingestion"
    source = json.loads(newest(project, "bids_source", made_by).read_text())
    if "roots" in source:
        raise UserError(f"--bids-root: expected one of {', '.join(source['roots'].values())}")
    root = str(source["root"])
    return root if "://" in root else str(project.project_path / root)


@cli.command("eegmat-to-bids")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("bids_root", type=click.Path(path_type=Path))
def eegmat_to_bids(folder: Path, bids_root: Path) -> None:
    """Convert PhysioNet's eegmat (rest and mental arithmetic) to BIDS.

    Download https://physionet.org/content/eegmat/1.0.0/ into FOLDER first.
    """
    from hbn_foundation.recordings.eegmat import convert

    root = convert(folder, bids_root).resolve()
    click.echo(f"Next: EEGMAT_ROOT={root} kedro run --env eegmat --pipeline foundation")


@cli.group()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The store; by default the project's, sweep.store.bases.",
)
@click.option("--env", help="Environment that names the project's store.")
@click.pass_context
def bases(context: click.Context, folder: Path | None, env: str | None) -> None:
    """List, show, verify, send, fetch and clear away the bases that sweeps share."""
    from hbn_foundation.experiments.inventory import open_store

    if folder is None:
        with open_project(env) as project:
            name = project.config_loader["parameters"]["sweep"]["store"]["bases"]
            folder = project.project_path / name
    if context.invoked_subcommand == "pull":
        folder.mkdir(parents=True, exist_ok=True)
    context.obj = open_store(folder)


@bases.command("list")
@click.pass_obj
def list_bases(store: Any) -> None:
    """List the bases."""
    from hbn_foundation.experiments import inventory

    click.echo(inventory.listing(store))


@bases.command("show")
@click.argument("hash")
@click.pass_obj
def show_base(store: Any, hash: str) -> None:
    """Show all that is known of a base; the first digits of its hash are enough."""
    from hbn_foundation.experiments import inventory

    click.echo(inventory.show(store, hash))


@bases.command("verify")
@click.pass_obj
def verify_bases(store: Any) -> None:
    """Compare all digests; put what is damaged into quarantine, and leave with status 1."""
    from hbn_foundation.experiments import inventory

    if inventory.verify(store, click.echo):
        sys.exit(1)


def _sync_command(function: Any) -> Any:
    url = click.option("--url", help="URL of fsspec; by default the project's, store.sync_url.")
    return click.argument("hashes", nargs=-1)(url(click.pass_context(function)))


def _remote(context: click.Context, url: str | None) -> Any:
    """Give the bases at a URL, laid out as sweeps do."""
    from hbn_foundation.experiments.sync import Remote, url_of

    if url is None:
        with open_project((context.parent or context).params["env"]) as project:
            url = project.config_loader["parameters"]["sweep"]["store"].get("sync_url")
    if not url:
        raise UserError("no URL: give --url, or set sweep.store.sync_url")
    return Remote(url_of(url, "base"))


@bases.command("push")
@_sync_command
def push_bases(context: click.Context, url: str | None, hashes: tuple[str, ...]) -> None:
    """Send bases, all or those named, to where workers without a common disk fetch them."""
    from hbn_foundation.experiments import inventory

    inventory.send(context.obj, _remote(context, url), hashes, click.echo)


@bases.command("pull")
@_sync_command
def pull_bases(context: click.Context, url: str | None, hashes: tuple[str, ...]) -> None:
    """Fetch bases, all or those named, that others have sent."""
    from hbn_foundation.experiments import inventory

    inventory.bring(context.obj, _remote(context, url), hashes, click.echo)


@bases.command("gc")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A base_jobs.json: remove all bases but those in it. May be given again.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def clear_bases(store: Any, keep: tuple[Path, ...], dry_run: bool) -> None:
    """Remove quarantine and leftovers; with --keep also bases that no plan named needs."""
    from hbn_foundation.experiments import inventory
    from hbn_foundation.experiments.selection import read_jobs

    jobs = [job for path in keep for job in read_jobs(str(path), "base", "--keep")]
    inventory.clear(store, [job.hash for job in jobs] if keep else None, dry_run, click.echo)


run = copy.copy(kedro_run)
run.callback = _run
for command in (run, embed, export, predict, stream):
    cli.add_command(command)
