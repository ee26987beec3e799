"""What a run reads and is not there yet, and the commands that make it."""

from pathlib import Path, PurePath
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline

from hbn_foundation.errors import UserError
from hbn_foundation.hooks.records import command
from hbn_foundation.training.recipes import FineTuningRecipe

TRIALS = "trials"
FOUNDATION = "foundation_checkpoint"


def versioned(catalog: DataCatalog, name: str) -> AbstractVersionedDataset | None:
    """Return the entry of that name where it has versions."""
    dataset = None if name.startswith("params:") else catalog.get(name)
    if isinstance(dataset, AbstractVersionedDataset) and dataset._version is not None:
        return dataset
    return None


def latest(dataset: AbstractVersionedDataset) -> str | None:
    """Return the newest version of an entry; None where there is none."""
    try:
        return dataset.resolve_load_version()
    except VersionNotFoundError:
        return None


def do_without_trials(catalog: DataCatalog, pipeline: Pipeline) -> None:
    """Let a run do without trials that are not listed yet, where no label of it needs them."""
    dataset = versioned(catalog, TRIALS)
    if dataset is None or TRIALS not in pipeline.inputs() or latest(dataset) is not None:
        return
    kinds = {one.label.kind for one in finetunings(catalog, pipeline).values()}
    if kinds and "trial" not in kinds:
        catalog[TRIALS] = MemoryDataset(None)


def finetunings(catalog: DataCatalog, pipeline: Pipeline) -> dict[str, FineTuningRecipe]:
    """Return the parameters of the fine-tunings of a pipeline, by name."""
    names = [name for name in pipeline.inputs() if name.startswith("params:") and name in catalog]
    found = {name.removeprefix("params:"): catalog.load(name) for name in names}
    return {name: one for name, one in found.items() if isinstance(one, FineTuningRecipe)}


def check_all_there(
    missing: dict[str, str], catalog: DataCatalog, run_params: dict[str, Any]
) -> None:
    """End the run where something that it reads was never made.

    Parameters
    ----------
    missing
        Where each such entry would lie, by its name.
    catalog, run_params
        Of the run.

    Raises
    ------
    UserError
        One line with all that is missing and the commands that make it.
    """
    if not missing:
        return
    commands = commands_for(set(missing), catalog, run_params)
    how = f"make {'it' if len(missing) == 1 else 'them'} by {' && '.join(commands)}"
    if not commands:
        how = "run the pipeline from a node that makes it"
    first, *others = missing
    also = f" (and of {', '.join(others)})" if others else ""
    raise UserError(
        f"{first}: nothing saved yet at {missing[first]}{also}; {how}{_elsewhere(missing[first])}"
    )


def _elsewhere(path: str) -> str:
    """Name the folders of other data sets that have an entry."""
    place = PurePath(path)
    if len(place.parents) < 3:
        return ""
    own, below = place.parents[1], place.relative_to(place.parents[1])
    others = sorted(Path(own.parent).glob("*"))
    names = [one.name for one in others if one.name != own.name and (one / below).is_dir()]
    if not names:
        return ""
    begin = "; to begin from it, add <pipeline>.checkpoint=<name>" * (below.name == FOUNDATION)
    return (
        f". It is there for {', '.join(names)}: for another data set than that of {own.name} add "
        f"its --env, or its --params ingestion.source.root{begin}"
    )


def commands_for(missing: set[str], catalog: DataCatalog, run_params: dict[str, Any]) -> list[str]:
    """Write the commands that make entries, and what these commands in turn lack, in order."""
    from hbn_foundation.pipeline_registry import register_pipelines

    pipelines = {k: v for k, v in register_pipelines().items() if k != "__default__"}
    waiting = _with_what_they_need(missing, catalog, pipelines)
    commands: dict[str, str] = {}
    while waiting:
        title = max(pipelines, key=lambda name: len(waiting & pipelines[name].all_outputs()))
        pipeline = pipelines[title]
        found = waiting & pipeline.all_outputs()
        if not found:
            break
        part = pipeline.only_nodes_with_outputs(*found)
        last = [node.name for node in part.nodes if not _goes_on(node, pipeline, part)]
        commands[title] = command(run_params, pipeline=title, to_nodes=",".join(last))
        waiting -= found
    return [commands[title] for title in pipelines if title in commands]  # as they are registered


def _with_what_they_need(
    missing: set[str], catalog: DataCatalog, pipelines: dict[str, Pipeline]
) -> set[str]:
    """Add what the makers of missing entries read and is not there either."""
    found: set[str] = set()
    new = missing
    while new:
        found = found | new
        inputs: set[str] = set()
        for pipeline in pipelines.values():
            made = new & pipeline.all_outputs()
            inputs |= pipeline.to_outputs(*made).inputs() if made else set()
        entries = {name: versioned(catalog, name) for name in inputs - found}
        new = {name for name, one in entries.items() if one is not None and not latest(one)}
    return found


def _goes_on(node: Any, pipeline: Pipeline, part: Pipeline) -> bool:
    """Tell whether another node of a part comes behind a node, so that it need not be named."""
    behind = set(pipeline.from_nodes(node.name).nodes) - {node}
    return bool(behind & set(part.nodes))
