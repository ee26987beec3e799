"""The project around a command: its folder, and its configuration in one environment."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.project import LOGGING
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import AbstractVersionedDataset
from kedro.io.core import VersionNotFoundError
from kedro.utils import find_kedro_project

from hbn_foundation.errors import UserError, leave_interrupted


def project_folder() -> Path:
    """Find the project that the current folder lies in.

    Raises
    ------
    UserError
        When it lies in none.
    """
    found = find_kedro_project(Path.cwd())
    if found is None:
        raise UserError(f"{Path.cwd()} lies in no project; change into the project's folder")
    return Path(found)


def log_as_configured(project: Path) -> None:
    """Log as `conf/logging.yml` of the project says; Kedro looks for it in the current folder."""
    path = project / "conf" / "logging.yml"
    if project == Path.cwd() or "KEDRO_LOGGING_CONFIG" in os.environ or not path.is_file():
        return
    LOGGING.configure(yaml.safe_load(path.read_text(encoding="utf-8")))


def log_plainly() -> None:
    """Log one line per event to stderr, as `conf/logging.yml` does, where there is no project."""
    LOGGING.configure(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s  %(message)s", "datefmt": "%H:%M:%S"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {"kedro": {"level": "WARNING"}, "hbn_foundation": {"level": "INFO"}},
            "root": {"handlers": ["console"], "level": "WARNING"},
        }
    )


@contextmanager
def open_project(env: str | None = None) -> Iterator[KedroContext]:
    """Read configuration and catalog of the project, as a run in this environment would.

    Parameters
    ----------
    env
        Environment; `local` where not given.

    Raises
    ------
    UserError
        Outside of a project; for an environment that does not exist.
    """
    project = project_folder()
    bootstrap_project(project)
    with KedroSession.create(project, env=env) as session:
        try:
            context = session.load_context()  # type: ignore[attr-defined]
        except MissingConfigException as error:
            raise UserError(" ".join(str(error).split())) from None
        yield context


def newest(context: KedroContext, name: str, hint: str) -> Path:
    """Return the path of the newest version of an entry.

    Parameters
    ----------
    context
        Of the project.
    name
        Of the entry.
    hint
        The command that makes it.

    Raises
    ------
    UserError
        When there is none.
    """
    dataset = context.catalog.get(name)
    if not isinstance(dataset, AbstractVersionedDataset):
        raise UserError(f"{name}: the catalog has no such entry in versions")
    try:
        return Path(str(dataset._get_load_path()))
    except VersionNotFoundError:
        raise UserError(
            f"{name}: nothing saved yet at {dataset._filepath}; make it by {hint}"
        ) from None


class Command(click.Command):
    """A command that prints a mistake of the user in one line and leaves with status 1.

    After Ctrl-C it leaves with status 130.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            leave_interrupted()
        except UserError as error:
            click.secho(f"Error: {error}", fg="red", err=True)
            sys.exit(1)


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type
