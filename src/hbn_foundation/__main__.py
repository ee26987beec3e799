"""`hbn-foundation` and `python -m hbn_foundation`: run the pipelines of the project."""

from pathlib import Path

from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project

from hbn_foundation.cli import cli


def main() -> None:
    """Run a command of the project from anywhere inside it."""
    bootstrap_project(find_kedro_project(Path.cwd()) or Path.cwd())
    cli()


if __name__ == "__main__":
    main()
