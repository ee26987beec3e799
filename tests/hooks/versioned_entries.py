"""Versioned entries of a catalog as files, and small pipelines of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from hbn_foundation.hooks import RunVersions

OLD, NEW = "2024-01-01T00.00.00.000Z", "2025-01-01T00.00.00.000Z"
RUN_ID = "2026-01-01T00.00.00.999Z"
LATER, LAST = "2027-01-01T00.00.00.000Z", "2028-01-01T00.00.00.000Z"


def double(value: int) -> int:
    return 2 * value


def add(left: int, right: int) -> int:
    return left + right


CHAIN = Pipeline(
    [node(double, "first", "second", name="a"), node(double, "second", "third", name="b")]
)
JOINED = Pipeline([node(add, ["first", "second"], "third", name="add")])


def catalog_of(
    folder: Path, names: Iterable[str] = ("first", "second", "third"), version: str = RUN_ID
) -> DataCatalog:
    """Versioned entries of JSON, each a file of its name in a folder."""
    config = {
        name: {"type": "json.JSONDataset", "filepath": str(folder / name), "versioned": True}
        for name in names
    }
    return DataCatalog.from_config(config, save_version=version)


def save(folder: Path, name: str, version: str, value: int = 1) -> None:
    path = folder / name / version / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(value))


def start(pipeline: Pipeline, catalog: DataCatalog, folder: Path, **more) -> None:
    run_params = {"run_id": RUN_ID, "project_path": str(folder)} | more
    RunVersions().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
