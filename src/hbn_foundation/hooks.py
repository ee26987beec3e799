"""Hooks into every run: parameter names, one version per run, and where the results are."""

import json
import os
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import Version, VersionNotFoundError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from hbn_foundation.errors import UserError
from hbn_foundation.params import dotted
from hbn_foundation.progress import say

IN_THE_REPORT = (
    "kedro run --pipeline {0} --from-nodes {0}.report --params "
    "{0}.evaluation.learning_curve=<the learning_curve above>"
)
NEXT_STEP = {
    "ingestion": "kedro run --pipeline foundation",
    "challenge1": "kedro run --pipeline challenge2",
    "challenge2": "kedro run --pipeline submission",
    "submission": "hbn-foundation score <the submission above> --bids-root <a release>",
    "challenge1_learning_curve": IN_THE_REPORT.format("challenge1"),
    "challenge2_learning_curve": IN_THE_REPORT.format("challenge2"),
}
VIEW = "kedro viz run"


class ParameterNames:
    """Refuse parameter names that no node reads.

    The value of a known group is checked by its pydantic model; a group whose own name is
    misspelt would be ignored without a word.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Compare the configured names with those that the pipelines ask for."""
        known = known_parameters()
        for name in _groups(context.config_loader["parameters"]):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                raise UserError(f"parameter {name}: no node reads it; {hint}")


def known_parameters() -> list[str]:
    """Return the dotted names of all parameter groups that some node reads."""
    from hbn_foundation.pipeline_registry import register_pipelines

    inputs = set().union(*(pipeline.inputs() for pipeline in register_pipelines().values()))
    return sorted(name.removeprefix("params:") for name in inputs if name.startswith("params:"))


def _groups(parameters: dict[str, Any]) -> Iterator[str]:
    """Yield `pipeline.group` for every second-level key, and bare first-level values."""
    for pipeline, groups in parameters.items():
        if isinstance(groups, dict):
            yield from (f"{pipeline}.{group}" for group in groups)
        else:
            yield pipeline


class RunVersions:
    """Give each run one version of its own, so that overlapping runs never mix.

    Kedro loads the *latest* version of a dataset, which may be another run's. Here a dataset
    that this run makes is loaded in the version this run saved; one that it only reads is
    fixed when the run starts. Kedro's warning that two versions differ becomes an error. Nodes
    that name something after the run read the version as `run_version`, the names of all nodes
    of the run as `run_nodes`, and environment, parameters and versions that it was given as
    `run_settings`.
    """

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._version: str | None = None

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Claim this run's version and fix the version of everything it reads."""
        warnings.filterwarnings("error", message="Save version '.*' did not match load version")
        self._catalog = catalog
        self._version = claim_version(run_params)
        catalog["run_version"] = MemoryDataset(self._version)
        catalog["run_nodes"] = MemoryDataset([node.name for node in pipeline.nodes])
        asked = run_params.get("load_versions") or {}
        params = dict(dotted(run_params.get("runtime_params") or {}))
        catalog["run_settings"] = MemoryDataset(
            {"env": run_params.get("env"), "params": params, "load_versions": asked}
        )
        made = pipeline.all_outputs()
        read: dict[str, str] = {}
        for name in sorted(pipeline.datasets()):
            dataset = _versioned(catalog, name)
            if dataset is None:
                continue
            if name in made and name in asked:
                raise UserError(
                    f"--load-versions {name}: this run makes {name} itself; "
                    "leave it out or start behind the node that makes it"
                )
            if name not in made:
                read[name] = asked.get(name) or _latest(dataset, name, run_params)
                self._pin(dataset, read[name])
                _check_there(dataset, name, read[name])
            elif not run_params.get("only_missing_outputs"):
                self._pin(dataset, self._version)

        _tell_origins(read)

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """From its save on, a dataset is read in this run's version."""
        dataset = _versioned(self._catalog, dataset_name) if self._catalog is not None else None
        if dataset is not None and self._version is not None:
            self._pin(dataset, self._version)

    def _pin(self, dataset: AbstractVersionedDataset, load: str) -> None:
        dataset.release()
        dataset._version = Version(load, self._version)


def _versioned(catalog: DataCatalog, name: str) -> AbstractVersionedDataset | None:
    dataset = None if name.startswith("params:") else catalog.get(name)
    if isinstance(dataset, AbstractVersionedDataset) and dataset._version is not None:
        return dataset
    return None


def _latest(dataset: AbstractVersionedDataset, name: str, run_params: dict[str, Any]) -> str:
    try:
        version = dataset.resolve_load_version()
    except VersionNotFoundError:
        version = None
    if version is None:
        raise UserError(
            f"{name}: nothing saved yet at {dataset._filepath}; {_maker(name, run_params)}"
        )
    return version


def _maker(name: str, run_params: dict[str, Any]) -> str:
    """Word the command that makes a dataset."""
    from hbn_foundation.pipeline_registry import register_pipelines

    for title, pipeline in register_pipelines().items():
        if name in pipeline.all_outputs():
            maker = next(node.name for node in pipeline.nodes if name in node.outputs)
            command = f"kedro run --pipeline {title} --to-nodes {maker}"
            return f"make it by {command}{_environment(run_params)}"
    return "run the pipeline from a node that makes it"


def _check_there(dataset: AbstractVersionedDataset, name: str, version: str) -> None:
    if not dataset.exists():
        found = ", ".join(dataset.list_versions(full_path=False)[:5]) or "none"
        raise UserError(f"{name}: no version {version}; newest first there are {found}")


def _tell_origins(read: dict[str, str]) -> None:
    """Say so when what a run reads was made by different runs."""
    runs = sorted(set(read.values()))
    if len(runs) > 1:
        parts = [f"{', '.join(n for n in read if read[n] == run)} of {run}" for run in runs]
        say(f"Reading results of {len(runs)} runs: {'; '.join(parts)}")


def claim_version(run_params: dict[str, Any]) -> str:
    """Claim a version that no other run has, and record what the run was asked to do.

    Parameters
    ----------
    run_params
        As Kedro gives them: `run_id` is the time of the start, in milliseconds; a run that
        started in the same millisecond may have it already, then the next one is taken.

    Returns
    -------
    str
        The version, also the name of the folder under `data/runs` that holds `run.json`.
    """
    runs = Path(run_params.get("project_path", ".")) / "data" / "runs"
    version = str(run_params["run_id"])
    while True:
        try:
            (runs / version).mkdir(parents=True)
            break
        except FileExistsError:
            version = _next_millisecond(version)
    record = {**run_params, "version": version, "pid": os.getpid()}
    (runs / version / "run.json").write_text(json.dumps(record, indent=2, default=str))
    return version


def _next_millisecond(version: str) -> str:
    moment = datetime.strptime(version, "%Y-%m-%dT%H.%M.%S.%fZ") + timedelta(milliseconds=1)
    return moment.strftime("%Y-%m-%dT%H.%M.%S.") + f"{moment.microsecond // 1000:03d}Z"


class RunReport:
    """Say which node runs, how long it took, where the results are and what to run next."""

    def __init__(self) -> None:
        self._started = 0.0
        self._done = 0
        self._pipeline: Pipeline | None = None
        self._finished: set[Node] = set()

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Count the nodes."""
        self._done, self._pipeline, self._finished = 0, pipeline, set()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the node."""
        self._done += 1
        self._started = time.monotonic()
        total = len(self._pipeline.nodes) if self._pipeline is not None else self._done
        say(f"[{self._done}/{total}] {node.name}")

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Tell the time of nodes that took some."""
        self._finished.add(node)
        seconds = time.monotonic() - self._started
        if seconds > 1:
            say(f"        {node.name} took {seconds:.0f} s")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Tell how to go on where the run stopped."""
        if not self._finished or self._pipeline is None:
            return
        waiting = set(self._pipeline.nodes) - self._finished
        first = [
            node.name
            for node in self._pipeline.nodes
            if node in waiting and not self._pipeline.node_dependencies[node] & waiting
        ]
        say(f"What is done is kept; to go on: the same command with --from-nodes {','.join(first)}")

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """List the files that this run made, and the next command."""
        say("Results:")
        made = {name: catalog.get(name) for name in sorted(pipeline.all_outputs())}
        width = max(map(len, made), default=0)
        for name, dataset in made.items():
            if isinstance(dataset, AbstractVersionedDataset):
                say(f"  {name:{width}} {_relative(dataset._get_load_path(), run_params)}")
        names = run_params.get("pipeline_names") or ["__default__"]
        next_step = NEXT_STEP.get(names[0], VIEW)
        ours = next_step.startswith("kedro")
        say(f"Next: {next_step}{_environment(run_params) if ours else ''}")


def _environment(run_params: dict[str, Any]) -> str:
    return f" --env {run_params['env']}" if run_params.get("env") else ""


def _relative(path: Any, run_params: dict[str, Any]) -> str:
    project = run_params.get("project_path", "")
    return os.path.relpath(str(path), project) if project else str(path)
