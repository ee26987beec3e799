"""One version per run, and versions that belong together."""

import warnings
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import Version
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.job import note_run
from hbn_foundation.hooks.folders import DATA
from hbn_foundation.hooks.missing import (
    check_all_there,
    do_without_trials,
    latest,
    versioned,
)
from hbn_foundation.hooks.origins import begin_as_configured
from hbn_foundation.hooks.records import RunRecords, check_parts, claim_version
from hbn_foundation.params import dotted
from hbn_foundation.progress import say

#: What a node of another pipeline checks before a node of this one begins.
CHECKED_BEFORE = {"data_check"}


class RunVersions:
    """Give each run one version of its own, so that overlapping runs never mix.

    Kedro loads the *latest* version of a dataset, which may be another run's. Here a dataset
    that this run makes is loaded in the version this run saved; one that it only reads is
    fixed when the run starts. A version that `--load-versions` names brings those of the same
    run along: history, metrics and windows that belong to a checkpoint. Kedro's warning that two
    versions differ becomes an error. Nodes that name something after the run read the version
    as `run_version`.
    """

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._version: str | None = None
        self._data = DATA

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note the folder of the data set, which also holds what is on record of its runs."""
        self._data = context.config_loader["globals"].get(DATA, DATA)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Claim this run's version and fix the version of everything it reads."""
        warnings.filterwarnings("error", message="Save version '.*' did not match load version")
        self._catalog = catalog
        self._runs = Path(run_params.get("project_path", "."), self._data, "runs")
        self._version = claim_version(run_params, self._runs)
        catalog["run_version"] = MemoryDataset(self._version)
        asked = run_params.get("load_versions") or {}
        params = dict(dotted(run_params.get("runtime_params") or {}))
        note_run({"env": run_params.get("env"), "params": params, "load_versions": asked})
        for name in CHECKED_BEFORE & pipeline.inputs():
            catalog[name] = MemoryDataset({})  # by no node of this run
        do_without_trials(catalog, pipeline)
        project = Path(run_params.get("project_path", "."))
        fixed = begin_as_configured(catalog, pipeline, project)
        records = RunRecords(self._runs)
        read = self._fix_versions(run_params, pipeline, catalog, records, fixed)
        _tell_origins(read)
        check_parts(read, catalog, records)
        records.add(self._version, read=read)

    def _fix_versions(
        self,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: DataCatalog,
        records: RunRecords,
        fixed: dict[str, str],
    ) -> dict[str, str]:
        """Fix the version of all that the run makes and reads; return that of what it reads."""
        asked = run_params.get("load_versions") or {}
        made = pipeline.all_outputs()
        read: dict[str, str] = {}
        missing: dict[str, str] = {}
        for name in sorted(pipeline.datasets()):
            dataset = versioned(catalog, name)
            if dataset is None:
                continue
            if name in made and name in asked:
                raise UserError(
                    f"--load-versions {name}: this run makes {name} itself; "
                    "leave it out or start behind the node that makes it"
                )
            if name not in made:
                version = (
                    asked.get(name)
                    or fixed.get(name)
                    or records.companion(name, dataset, asked)
                    or latest(dataset)
                )
                if version is None:
                    missing[name] = str(dataset._filepath)
                    continue
                read[name] = version
                self._pin(dataset, version)
                _check_there(dataset, name, version)
            elif not run_params.get("only_missing_outputs"):
                self._pin(dataset, self._version)
        check_all_there(missing, catalog, run_params)
        return read

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """From its save on, a dataset is read in this run's version."""
        dataset = versioned(self._catalog, dataset_name) if self._catalog is not None else None
        if dataset is not None and self._version is not None:
            self._pin(dataset, self._version)

    def _pin(self, dataset: AbstractVersionedDataset, load: str | None) -> None:
        dataset.release()
        dataset._version = Version(load, self._version)


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
