"""`hbn-foundation` and `python -m hbn_foundation`: run the pipelines of the project."""

from pathlib import Path

from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project

from hbn_foundation.cli import cli


def main() -> None:
    """Run a command of the project from anywhere inside it; some need no project around them."""
    project = find_kedro_project(Path.cwd())
    if project is not None:
        bootstrap_project(project)
    cli()


if __name__ == "__main__":
    main()
