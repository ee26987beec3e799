"""The checkpoint that a run begins from: an entry, a version, a folder, or another data set's."""

import json
import re
from pathlib import Path
from typing import NamedTuple, Self

import pandas as pd
from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import Version
from kedro.pipeline import Pipeline

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.evaluation.recipes import FoundationRecipe
from hbn_foundation.hooks.missing import FOUNDATION, finetunings, latest, versioned
from hbn_foundation.hooks.records import has_version
from hbn_foundation.io.checkpoint import CheckpointDataset
from hbn_foundation.progress import say
from hbn_foundation.submission.params import ExportParams
from hbn_foundation.training.supervision.run_folder import METADATA

RECIPE = "params:foundation"
EXPORT = "params:submission.export"
HISTORY = "foundation_history"
FOLDS = {"foundation_folds", "foundation_fold_summary"}
ENTRY = re.compile(r"\w+_checkpoint")
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")


class Origin(NamedTuple):
    """An entry, the version that is asked for (None: the newest), and the checkpoint's folder."""

    dataset: AbstractVersionedDataset
    version: str | None
    folder: Path

    @classmethod
    def of(cls, dataset: AbstractVersionedDataset, version: str | None = None) -> Self | None:
        """Find a version of an entry; None where there is none."""
        found = version or latest(dataset)
        if found is None or not has_version(dataset, found):
            return None
        return cls(dataset, version, Path(str(dataset._get_versioned_path(found))))


def begin_as_configured(catalog: DataCatalog, pipeline: Pipeline, project: Path) -> dict[str, str]:
    """Read the checkpoint that is configured in place of the newest foundation checkpoint.

    Parameters
    ----------
    catalog, pipeline
        Of the run.
    project
        Folder that relative paths count from.

    Returns
    -------
    dict
        Versions that the parameters name, by entry.

    Raises
    ------
    UserError
        When the fine-tunings of the run name different ones, the run makes its foundation itself,
        or there is no such checkpoint; or in a learning curve, when it may have learned labels.
    """
    _submit_as_configured(catalog, pipeline)
    named = _named(catalog, pipeline)
    name, wanted = next((one for one in named.items() if one[1] != FOUNDATION), ("", FOUNDATION))
    if wanted == FOUNDATION:
        return {}
    key = f"{name}.checkpoint={wanted}"
    if FOUNDATION in pipeline.all_outputs():
        raise UserError(
            f"{key}: this run makes {FOUNDATION}, and begins from that; expected {FOUNDATION}, or "
            "a run of its own"
        )
    for other, its in named.items():
        if its != wanted:
            raise UserError(
                f"{key}: the same run has {other}.checkpoint={its}; expected one for all, or a run "
                "for each"
            )
    origin = _find(key, wanted, catalog, project)
    if f"{name}.learning_curve" in pipeline.all_outputs():
        _check_pretrained(key, origin)
    say(f"{' and '.join(named)} begin{'s' * (len(named) == 1)} from {wanted}")
    catalog[FOUNDATION] = origin.dataset
    fixed = {} if origin.version is None else {FOUNDATION: origin.version}
    if "foundation" in named:
        fixed |= _without_folds(key, origin, catalog, pipeline)
    return fixed


def _submit_as_configured(catalog: DataCatalog, pipeline: Pipeline) -> None:
    """Read optimized checkpoints of the challenges, where the export asks for them."""
    if EXPORT not in pipeline.inputs() or EXPORT not in catalog:
        return
    export = ExportParams.model_validate(catalog.load(EXPORT))
    chosen = {"challenge1": export.challenge1_entry, "challenge2": export.challenge2_entry}
    for challenge, entry in chosen.items():
        if entry != "checkpoint" and f"{challenge}.checkpoint" in pipeline.inputs():
            origin = versioned(catalog, f"{challenge}.{entry}")
            assert origin is not None
            catalog[f"{challenge}.checkpoint"] = origin
            say(f"submission: {challenge}.{entry}")


def _named(catalog: DataCatalog, pipeline: Pipeline) -> dict[str, str]:
    """Return what the recipes of a run name, by the name of the recipe."""
    readers = Pipeline([one for one in pipeline.nodes if FOUNDATION in one.inputs])
    named = {name: one.checkpoint for name, one in finetunings(catalog, readers).items()}
    if any(one.name == "evaluate_encoder" for one in readers.nodes) and RECIPE in catalog:
        recipe = FoundationRecipe.model_validate(catalog.load(RECIPE))
        named["foundation"] = recipe.checkpoint
    return named


def _find(key: str, wanted: str, catalog: DataCatalog, project: Path) -> Origin:
    """Find a checkpoint by the name of an entry, a version, a path or the name of a data set."""
    if ENTRY.fullmatch(wanted):
        dataset = versioned(catalog, wanted)
        if dataset is None:
            raise UserError(
                f"{key}: no entry of the catalog with versioned: true; expected one, such as "
                "finetuning_checkpoint"
            )
        origin = Origin.of(dataset)
        if origin is None:
            raise UserError(
                f"{key}: nothing saved yet at {dataset._filepath}; fine-tune first, with "
                f"checkpoint: {FOUNDATION}"
            )
        return origin
    own = versioned(catalog, FOUNDATION)
    if own is None:
        raise UserError(f"{key}: {FOUNDATION} has no versions in the catalog")
    if VERSION.fullmatch(wanted):
        origin = Origin.of(own, wanted)
        if origin is None:
            found = first_few(own.list_versions(full_path=False)) or "none"
            raise UserError(
                f"{key}: no such version at {own._filepath}; newest first there are {found}"
            )
        return origin
    if re.search(r"[/\\~]", wanted) or wanted.startswith("."):
        return _at_path(key, project / Path(wanted).expanduser())
    return _of_dataset(key, wanted, own)


def _at_path(key: str, path: Path) -> Origin:
    if not (path / METADATA).is_file():
        below = sorted(path.glob(f"*/*/{METADATA}"))
        hint = f"; below it there is {below[-1].parent}" if below else ""
        raise UserError(
            f"{key}: no checkpoint at {path}; expected its folder, with {METADATA} in it{hint}"
        )
    version = path.parent.name
    if VERSION.fullmatch(version) and path.name == path.parents[1].name:  # as a run writes it
        return Origin(_entry(path.parents[1]), version, path)
    return Origin(CheckpointDataset(filepath=path.as_posix()), None, path)


def _of_dataset(key: str, name: str, own: AbstractVersionedDataset) -> Origin:
    """Find the newest foundation checkpoint in the folder of another data set."""
    place = Path(str(own._filepath))
    folder, below = place.parents[2], place.relative_to(place.parents[1])
    origin = Origin.of(_entry(folder / name / below))
    if origin is None:
        others = sorted(one.name for one in folder.glob("*") if (one / below).is_dir())
        there = f"those there are: {', '.join(others)}" if others else "none has one"
        raise UserError(
            f"{key}: no foundation checkpoint of a data set of this name in {folder}; {there}; "
            "expected one of them, an entry, a version, or a path with /"
        )
    return origin


def _entry(path: Path) -> AbstractVersionedDataset:
    return CheckpointDataset(filepath=path.as_posix(), version=Version(None, None))


def _check_pretrained(key: str, origin: Origin) -> None:
    """Make sure that a checkpoint knows none of the labels that a learning curve holds back."""
    metadata = origin.folder / METADATA
    is_foundation = metadata.is_file() and json.loads(metadata.read_text())["kind"] == "foundation"
    if not is_foundation:
        raise UserError(
            f"{key}: this has learned labels that a learning curve holds back; expected "
            f"{FOUNDATION}, or one that was only pretrained"
        )


def _without_folds(
    key: str, origin: Origin, catalog: DataCatalog, pipeline: Pipeline
) -> dict[str, str]:
    """Take the history of the checkpoint's own run, and no folds, which are of other encoders."""
    for name in FOLDS & pipeline.inputs():
        catalog[name] = MemoryDataset(pd.DataFrame())
    own = versioned(catalog, HISTORY)
    if own is None or HISTORY not in pipeline.inputs():
        return {}
    version = origin.folder.parent.name
    place = origin.folder.parents[2] / own._filepath.name
    history = type(own)(filepath=place.as_posix(), version=Version(version, None))  # type: ignore[arg-type]
    if not has_version(history, version):
        raise UserError(f"{key}: no history of its run at {place}; add --nodes evaluate_encoder")
    catalog[HISTORY] = history
    return {HISTORY: version}
