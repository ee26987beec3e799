"""What is said while a run goes and when it has ended."""

import os
import shlex
import time
from contextlib import ExitStack
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from hbn_foundation.errors import mistake, typed_command
from hbn_foundation.evaluation.recipes import Challenge2Recipe
from hbn_foundation.hooks.missing import versioned
from hbn_foundation.hooks.records import command, given_params
from hbn_foundation.params import dotted
from hbn_foundation.progress import duration, say, working

#: Options that choose what of a pipeline runs, by their names in what Kedro hands to hooks.
CHOICES = ("from_nodes", "to_nodes", "from_inputs", "to_outputs", "tags", "namespaces")

#: What a run that only reads it takes as the last ingestion made it, whatever changed since.
OF_INGESTION = {"participants", "recordings", "trials"}


class RunReport:
    """Say which node runs, how long it took, where the results are and what to run next."""

    def __init__(self) -> None:
        self._started = 0.0
        self._done = 0
        self._pipeline: Pipeline | None = None
        self._finished: set[Node] = set()
        self._catalog: DataCatalog | None = None
        self._asked: dict[str, Any] = {}
        self._node = ""
        self._pulse = ExitStack()

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Count the nodes."""
        self._catalog = catalog
        self._done, self._pipeline, self._finished = 0, pipeline, set()
        self._asked = run_params
        self._started, self._node = time.monotonic(), "preparing the run"
        self._pulse = ExitStack()
        self._pulse.enter_context(working(self._so_far))

    def _so_far(self) -> str:
        seconds = duration(time.monotonic() - self._started)
        return f"        {self._node}: {seconds} so far"

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the node."""
        self._done += 1
        self._node = node.name
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
        """Tell how to go on where the run stopped; who stopped it is told so in one line."""
        self._pulse.close()
        if self._finished and mistake(error) is None:
            say(f"What is done is kept; to go on: {self.again()}")

    def once_mended(self) -> str | None:
        """Tell how to go on after a mistake is mended; None where nothing was saved by then."""
        made = {name for node in self._finished for name in node.outputs}
        if self._catalog is None or not any(versioned(self._catalog, name) for name in made):
            return None
        again = ""
        if self._pipeline is not None and self._pipeline.inputs() & OF_INGESTION:
            again = f" (changed data: after {command(self._asked, pipeline='ingestion')})"
        return (
            f"What is done is kept; once that is mended{again}, go on with --from-nodes "
            f"{self._waiting()}"
        )

    def again(self) -> str:
        """Write the command that goes on where the run stopped."""
        if not self._asked:  # it was stopped before it began
            return typed_command()
        options = {name: ",".join(self._asked.get(name) or ()) for name in CHOICES}
        options["nodes"] = ",".join(self._asked.get("node_names") or ())
        versions = self._asked.get("load_versions") or {}
        options["load_versions"] = ",".join(f"{name}:{one}" for name, one in versions.items())
        if self._finished and options["nodes"] and self._pipeline is not None:
            waiting = [node for node in self._pipeline.nodes if node not in self._finished]
            options["nodes"] = ",".join(node.name for node in waiting)
        elif self._finished:
            options["from_nodes"] = self._waiting()
        return command(self._asked, **options)

    def _waiting(self) -> str:
        """Name the nodes that could run next."""
        assert self._pipeline is not None
        nodes, needed = self._pipeline.nodes, self._pipeline.node_dependencies
        waiting = set(nodes) - self._finished
        return ",".join(n.name for n in nodes if n in waiting and not needed[n] & waiting)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """List the files that this run made, and the next command."""
        self._pulse.close()
        made = {name: catalog.get(name) for name in sorted(pipeline.all_outputs())}
        saved = {
            name: os.path.relpath(str(dataset._get_load_path()), run_params["project_path"])
            for name, dataset in made.items()
            if isinstance(dataset, AbstractVersionedDataset)
        }
        say("Results:" if saved else "Results: none to be saved")
        width = max(map(len, saved), default=0)
        for name, path in saved.items():
            say(f"  {name:{width}} {path}")
        say(f"Next: {next_command(run_params, catalog, saved)}")


def next_command(run_params: dict[str, Any], catalog: DataCatalog, saved: dict[str, str]) -> str:
    """Write the command that usually follows a run, one that works on what is there.

    `saved` are the paths of what the run made, from the project's folder, by the name of the entry.
    """
    name = (run_params.get("pipeline_names") or ["__default__"])[0]
    if name == "ingestion":
        return command(run_params, pipeline="foundation")
    if name == "sweep" and run_params.get("to_nodes"):  # the plan alone
        return command(run_params)
    if name == "challenge1" and _has_factors(catalog):
        return command(run_params, pipeline="challenge2")
    if name == "challenge2" and _can_be_submitted(catalog):
        return command(run_params, pipeline="submission")
    if name in ("challenge1_optimization", "challenge2_optimization") and (
        _can_be_submitted(catalog)
    ):
        given = run_params.get("runtime_params") or {}
        kept = {key: value for key, value in given.items() if key != "optimization"}
        kept[f"submission.export.{name.removesuffix('_optimization')}_entry"] = (
            "optimized_checkpoint"
        )
        return command({**run_params, "runtime_params": kept}, pipeline="submission")
    if name == "submission" and "submission" in saved:
        release = _root(run_params)
        where = f" --bids-root {shlex.quote(release)}" if release else environment(run_params)
        return f"hbn-foundation score {saved['submission']}{where}"
    return viz_command(run_params)


def viz_command(run_params: dict[str, Any]) -> str:
    """Write the command that shows the lineage in the folder that a run has written to.

    The server finds that folder only where it runs the project's hooks.
    """
    given = dict(dotted(run_params.get("runtime_params") or {}))
    roots = {name: one for name, one in given.items() if name.startswith("ingestion.source.root")}
    chosen = {"runtime_params": roots}
    hooks = " --include-hooks" if roots or run_params.get("env") else ""
    return " ".join([f"kedro viz run{environment(run_params)}{hooks}", *given_params(chosen)])


def _root(run_params: dict[str, Any]) -> str | None:
    """Return the BIDS root that `--params` gave."""
    given = dict(dotted(run_params.get("runtime_params") or {}))
    root = given.get("ingestion.source.root")
    return None if root is None else str(root)


def _has_factors(catalog: DataCatalog) -> bool:
    """Tell whether the participants have what challenge 2 learns."""
    label = Challenge2Recipe.model_validate(catalog.load("params:challenge2")).label
    return catalog.exists("participants") and label.column in catalog.load("participants")


def _can_be_submitted(catalog: DataCatalog) -> bool:
    """Tell whether both models are there and take single windows in volts."""
    for challenge in ("challenge1", "challenge2"):
        checkpoint = f"{challenge}.checkpoint"
        if not catalog.exists(checkpoint):
            return False
        if catalog.load(checkpoint).metadata["parameters"]["input"]["unit"] != "volts":
            return False
    return True


def environment(run_params: dict[str, Any]) -> str:
    """Write the option that names the run's environment, where there is one."""
    return f" --env {run_params['env']}" if run_params.get("env") else ""
