"""`hbn-foundation bases`: the bases that sweeps share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hbn_foundation.project import one_line_errors, open_project


@click.group()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The store; by default the project's, sweep.store.bases.",
)
@click.option("--env", help="Environment that names the project's store.")
@click.pass_context
def bases(context: click.Context, folder: Path | None, env: str | None) -> None:
    """List, show, verify and clear away the bases that sweeps share."""
    with one_line_errors():
        if folder is None:
            with open_project(env) as project:
                folder = (
                    project.project_path
                    / project.config_loader["parameters"]["sweep"]["store"]["bases"]
                )
    context.obj = folder


def _with_store(work: Callable[[Any], Any], folder: Path) -> Any:
    """Do something with the store of bases; end with one line where there is none."""
    from hbn_foundation.sweeps import inventory

    with one_line_errors():
        return work(inventory.open_store(folder))


@bases.command("list")
@click.pass_obj
def list_bases(folder: Path) -> None:
    """List the bases."""
    from hbn_foundation.sweeps import inventory

    click.echo(_with_store(lambda store: inventory.as_text(inventory.rows(store)), folder))


@bases.command("show")
@click.argument("hash")
@click.pass_obj
def show_base(folder: Path, hash: str) -> None:
    """Show all that is known of a base; the first digits of its hash are enough."""
    from hbn_foundation.sweeps import inventory

    click.echo(_with_store(lambda store: inventory.show(store, hash), folder))


@bases.command("verify")
@click.pass_obj
def verify_bases(folder: Path) -> None:
    """Compare all digests; put what is damaged into quarantine, and leave with status 1."""
    from hbn_foundation.sweeps import inventory

    if _with_store(lambda store: inventory.verify(store, click.echo), folder):
        sys.exit(1)


@bases.command("gc")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A base_jobs.json: remove all bases but those in it. May be given again.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def clear_bases(folder: Path, keep: tuple[Path, ...], dry_run: bool) -> None:
    """Remove quarantine and leftovers; with --keep also bases that no plan named needs."""
    from hbn_foundation.sweeps import inventory
    from hbn_foundation.sweeps.jobs import read_jobs

    def clear(store: Any) -> None:
        jobs = [job for path in keep for job in read_jobs(str(path), "base", "--keep")]
        inventory.clear(store, [job.hash for job in jobs] if keep else None, dry_run, click.echo)

    _with_store(clear, folder)
