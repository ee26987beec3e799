"""`hbn-foundation bases`: the bases that sweeps share."""

import sys
from pathlib import Path
from typing import Any

import click

from hbn_foundation.project import Group, open_project


@click.group(cls=Group)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The store; by default the project's, sweep.store.bases.",
)
@click.option("--env", help="Environment that names the project's store.")
@click.pass_context
def bases(context: click.Context, folder: Path | None, env: str | None) -> None:
    """List, show, verify and clear away the bases that sweeps share."""
    from hbn_foundation.experiments.inventory import open_store

    if folder is None:
        with open_project(env) as project:
            name = project.config_loader["parameters"]["sweep"]["store"]["bases"]
            folder = project.project_path / name
    context.obj = open_store(folder)


@bases.command("list")
@click.pass_obj
def list_bases(store: Any) -> None:
    """List the bases."""
    from hbn_foundation.experiments import inventory

    click.echo(inventory.as_text(inventory.rows(store)))


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
