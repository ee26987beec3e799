"""`hbn-foundation` and `python -m hbn_foundation`: run the pipelines of the project."""

import logging
import os
import sys
from pathlib import Path

from hbn_foundation.errors import leave_interrupted


def main() -> None:
    """Run a command of the project from anywhere inside it; some need no project around them.

    From outside, the option `--project-path` before the command names the project's folder.
    """
    try:
        _run()
    except KeyboardInterrupt:  # while packages are imported, too
        leave_interrupted()


def _run() -> None:
    logging.disable(logging.INFO)  # Kedro's import says which configuration it found for logging
    import click
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    from hbn_foundation.cli import cli
    from hbn_foundation.project import log_plainly

    logging.disable(logging.NOTSET)

    if sys.argv[1:2] == ["--project-path"] and len(sys.argv) > 2:  # before Kedro looks for one
        folder = Path(sys.argv[2])
        if find_kedro_project(folder) is None:
            sys.exit(f"Error: --project-path {folder}: there is no project")
        os.chdir(folder)
        del sys.argv[1:3]
    project = find_kedro_project(Path.cwd())
    if project is None:
        log_plainly()
    else:
        bootstrap_project(project)
    try:
        status = cli.main(standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
