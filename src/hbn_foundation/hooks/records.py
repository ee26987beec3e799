"""What is on record of each run: its version, what it was asked to do, what it read."""

import json
import os
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog
from omegaconf import OmegaConf

from hbn_foundation.errors import UserError
from hbn_foundation.params import dotted

RECORD = "run.json"


class RunRecords:
    """The records of the runs of one data folder.

    Parameters
    ----------
    runs
        The folder that holds `<version>/run.json`.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def add(self, version: str, **more: Any) -> None:
        """Put more into the record of a run."""
        path = self._runs / version / RECORD
        record = {**self._record(version), **more}
        path.write_text(json.dumps(record, indent=2, default=str))

    def read_by(self, version: str) -> dict[str, str]:
        """Return the versions that a run read, by the name of the entry."""
        return dict(self._record(version).get("read", {}))

    def _record(self, version: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._runs / version / RECORD).read_text()))
        except (OSError, ValueError):
            return {}

    def companion(
        self, name: str, dataset: AbstractVersionedDataset, asked: dict[str, str]
    ) -> str | None:
        """Find the version of an entry that belongs to those asked for.

        Parameters
        ----------
        name, dataset
            The entry, of which no version is asked for.
        asked
            Versions of other entries.

        Returns
        -------
        str or None
            That of the same run; else the one which that run read; else the newest one made by a
            run which read what is asked for. None where there is no such version.
        """
        for version in dict.fromkeys(asked.values()):
            for found in (self.read_by(version).get(name), version):
                if found is not None and has_version(dataset, found):
                    return str(found)
        wanted = asked.items()
        for version in dataset.list_versions(full_path=False) if asked else []:
            if wanted & self.read_by(version).items():
                return str(version)
        return None


def has_version(dataset: AbstractVersionedDataset, version: str) -> bool:
    """Tell whether a version of an entry is on disk."""
    return bool(dataset._exists_function(str(dataset._get_versioned_path(version))))


def check_parts(read: dict[str, str], catalog: DataCatalog, records: RunRecords) -> None:
    """Make sure that results which a run reads are of the checkpoint that it reads.

    Parameters
    ----------
    read
        Version of each entry that is read.
    catalog
        Of the run.
    records
        Of the runs.

    Raises
    ------
    UserError
        When the history, the metrics or the predictions of one checkpoint would be reported
        beside another.
    """
    for checkpoint in (name for name in read if name.endswith("checkpoint")):
        dataset = catalog.get(checkpoint)
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        for name in sorted(_results_of(checkpoint) & read.keys()):
            version = read[name]
            is_its_run = has_version(dataset, version)
            origin = version if is_its_run else records.read_by(version).get(checkpoint)
            if origin is not None and origin != read[checkpoint]:
                raise UserError(
                    f"{name} of {version} belongs to the {checkpoint} of {origin}, but that of "
                    f"{read[checkpoint]} is read beside it; add --load-versions "
                    f"{checkpoint}:{origin}, or evaluate the other one first"
                )


def _results_of(checkpoint: str) -> set[str]:
    """Names of what is saved with a checkpoint and of what evaluations make of it."""
    from hbn_foundation.pipeline_registry import register_pipelines

    found: set[str] = set()
    for pipeline in register_pipelines().values():
        if checkpoint in pipeline.all_outputs():
            found.update(pipeline.only_nodes_with_outputs(checkpoint).all_outputs())
            behind = pipeline.from_inputs(checkpoint)
            found.update(behind.only_nodes_with_tags("evaluation").all_outputs())
    return found - {checkpoint}


def claim_version(run_params: dict[str, Any], runs: Path) -> str:
    """Claim a version that no other run has, and record what the run was asked to do.

    Parameters
    ----------
    run_params
        As Kedro gives them: `run_id` is the time of the start, in milliseconds; a run that
        started in the same millisecond may have it already, then the next one is taken.
    runs
        The folder of all runs.

    Returns
    -------
    str
        The version, also the name of the folder under `runs` that holds `run.json`.
    """
    version = str(run_params["run_id"])
    while True:
        try:
            (runs / version).mkdir(parents=True)
            break
        except FileExistsError:
            version = _next_millisecond(version)
    record = {**run_params, "version": version, "pid": os.getpid()}
    (runs / version / RECORD).write_text(json.dumps(record, indent=2, default=str))
    return version


def _next_millisecond(version: str) -> str:
    moment = datetime.strptime(version, "%Y-%m-%dT%H.%M.%S.%fZ") + timedelta(milliseconds=1)
    return moment.strftime("%Y-%m-%dT%H.%M.%S.") + f"{moment.microsecond // 1000:03d}Z"


def command(run_params: dict[str, Any], **changes: str) -> str:
    """Write the command line of a run, as it was or with other nodes.

    Parameters
    ----------
    run_params
        As Kedro gives them; environment and parameters of the run are kept.
    **changes
        Options in place of the run's, such as `pipeline` and `from_nodes`.
    """
    names = run_params.get("pipeline_names") or []
    options = {"pipeline": ",".join(names), **changes, "env": run_params.get("env")}
    parts = ["kedro run"]
    parts += [f"--{key.replace('_', '-')} {value}" for key, value in options.items() if value]
    return " ".join([*parts, *given_params(run_params)])


def given_params(run_params: dict[str, Any]) -> list[str]:
    """Write the option `--params` of a run, read back as the same values; none where it had none.

    Parameters
    ----------
    run_params
        As Kedro gives them.
    """
    params = dotted(run_params.get("runtime_params") or {})
    given = ",".join(f"{name}={_as_typed(value)}" for name, value in params)
    return [f"--params {shlex.quote(given)}"] if given else []


def _as_typed(value: Any) -> str:
    """Write a value so that Kedro, which reads it by OmegaConf, takes it for the same."""
    text = str(value).replace("'", "")  # a shell would need quotes around the quotes of a list
    read = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return text if read == {"value": value} else json.dumps(value)
