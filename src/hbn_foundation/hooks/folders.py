"""Where a run works, and in which folder its data set lies."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog

from hbn_foundation.bids import SEPARATOR
from hbn_foundation.errors import UserError
from hbn_foundation.recordings.params import SourceParams

DATA = "data"


class ProjectFolder:
    """Let relative paths mean the project's folder while a pipeline runs, wherever it was started.

    Kedro does so for the catalog alone; work folders, BIDS roots and whatever else a parameter
    names would be taken from where the command was typed.
    """

    def __init__(self) -> None:
        self._inside = ExitStack()

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Enter the project's folder."""
        self._inside.enter_context(chdir(run_params["project_path"]))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Leave it."""
        self._inside.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Leave it."""
        self._inside.close()


class DataFolder:
    """Give each data set a folder of its own below `data`.

    `globals.yml` names the folder of the data set that is configured beside it. A root that
    `--params` gives, or that an environment gives without a `globals.yml` of its own, is another
    data set: its folder is `data/<name of the root>`; of several roots, `data/<name>-<name>`. A
    folder in which another data set lies already is refused before anything runs.
    """

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Choose the folder, before anything reads it from the configuration."""
        loader = context.config_loader
        if not isinstance(loader, OmegaConfigLoader):
            return
        roots = _roots(loader["parameters"])
        declared = loader["globals"].get(DATA)
        if not roots or declared is None:
            return
        with _reading(loader, runtime_params={}):
            configured = _roots(loader["parameters"])
        with _reading(loader, runtime_params={}, env=loader.base_env):
            base, of_base = loader["globals"].get(DATA, DATA), _roots(loader["parameters"])
        if roots == configured and (declared != base or roots == of_base):
            return
        project = Path(context.project_path)
        name = SEPARATOR.join(name or folder_name(root, project) for name, root in roots.items())
        folder = Path(base).parent / name
        loader["globals"] = {**loader["globals"], DATA: folder.as_posix()}
        loader._globals_oc = None  # what Kedro has kept of the old ones

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Refuse to put two data sets into one folder."""
        dataset = catalog.get("bids_source") if "params:ingestion.source" in catalog else None
        if not isinstance(dataset, AbstractVersionedDataset) or not dataset.exists():
            return
        source = SourceParams.model_validate(catalog.load("params:ingestion.source"))
        saved = dataset.load()
        asked = source.roots or {"": source.root or source.simulated_root}
        there = saved.get("roots") or {"": saved["root"]}
        if are_same_roots(there, asked, Path(run_params["project_path"])):
            return
        folder = os.path.relpath(str(dataset._filepath.parents[1]), str(run_params["project_path"]))
        raise UserError(
            f"{folder} holds what was made of {_listed(there)}, and this run is of "
            f"{_listed(asked)}; name another folder in conf/<environment>/globals.yml "
            f"({DATA}: {DATA}/<name>) and add --env <environment>, or move {folder} away"
        )


def _roots(parameters: dict[str, Any]) -> dict[str, str]:
    """Return the configured roots by name, a single one as ""; none for the simulated release."""
    source = parameters.get("ingestion", {}).get("source", {})
    roots = source.get("roots") or {"": source.get("root")}
    if not isinstance(roots, Mapping):  # which is refused when the values are checked
        return {}
    return {str(name): str(root) for name, root in roots.items() if root is not None}


def _listed(roots: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {root}" if name else root for name, root in roots.items())


@contextmanager
def _reading(loader: OmegaConfigLoader, **changes: Any) -> Iterator[None]:
    """Let the loader read the files as if it had been made with other arguments."""
    before = {name: getattr(loader, name) for name in changes}
    try:
        vars(loader).update(changes)
        yield
    finally:
        vars(loader).update(before)


def folder_name(root: str, project: Path = Path()) -> str:
    """Name the folder of a data set after the last part of its root, a folder or a URL.

    Parameters
    ----------
    root
        Of the BIDS data set.
    project
        The folder that a relative root counts from.

    Examples
    --------
    >>> folder_name("s3://bucket/R1_mini_L100_bdf/")
    'R1_mini_L100_bdf'
    """
    path = root if "://" in root else os.path.normpath(project / root)
    name = re.split(r"[/\\]+", path.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "root"


def is_same_root(there: str, asked: str, project: Path = Path()) -> bool:
    """Tell whether two roots are one; a folder that is gone was moved, and counts as the same."""
    if there.rstrip("/") == asked.rstrip("/"):
        return True
    if "://" in there or "://" in asked:
        return False
    return not (project / there).exists() or os.path.realpath(project / there) == os.path.realpath(
        project / asked
    )


def are_same_roots(
    there: Mapping[str, str], asked: Mapping[str, str], project: Path = Path()
) -> bool:
    """Tell whether roots by name are the same, or the same with some added or left out."""
    both = there.keys() & asked.keys()
    return len(both) == min(len(there), len(asked)) and all(
        is_same_root(there[name], asked[name], project) for name in both
    )
