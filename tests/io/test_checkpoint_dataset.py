"""The catalog saves and loads versions of a checkpoint."""

import pytest
import torch
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import Version

from hbn_foundation.io.checkpoint import CheckpointDataset
from hbn_foundation.training.checkpoint import Checkpoint


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"encoder.weight": torch.full((2,), value)}, {"run_id": str(value)})


def test_versions_do_not_mix(tmp_path):
    path = str(tmp_path / "model")
    for version, value in (("2026-01-01", 1.0), ("2026-01-02", 2.0)):
        CheckpointDataset(filepath=path, version=Version(None, version)).save(checkpoint(value))
    latest = CheckpointDataset(filepath=path, version=Version(None, None)).load()
    assert latest.metadata["run_id"] == "2.0"
    first = CheckpointDataset(filepath=path, version=Version("2026-01-01", None)).load()
    assert torch.equal(first.weights["encoder.weight"], torch.ones(2))


def test_a_version_is_never_overwritten(tmp_path):
    dataset = CheckpointDataset(filepath=str(tmp_path / "model"), version=Version(None, "a"))
    dataset.save(checkpoint(1.0))
    with pytest.raises(DatasetError):
        CheckpointDataset(filepath=str(tmp_path / "model"), version=Version(None, "a")).save(
            checkpoint(2.0)
        )


def test_the_catalog_makes_it(tmp_path):
    config = {
        "model": {
            "type": "hbn_foundation.io.checkpoint.CheckpointDataset",
            "filepath": str(tmp_path / "model"),
            "versioned": True,
            "metadata": {"kedro-viz": {"layer": "models"}},
        }
    }
    catalog = DataCatalog.from_config(config)
    assert not catalog.exists("model")
    catalog.save("model", checkpoint(3.0))
    assert catalog.exists("model")
    assert catalog.load("model").metadata["run_id"] == "3.0"


def test_who_made_it_is_told_when_it_is_stored(tmp_path):
    told = []
    stored = checkpoint(1.0)
    stored.when_stored = lambda: told.append((tmp_path / "model" / "metadata.json").is_file())
    CheckpointDataset(filepath=str(tmp_path / "model")).save(stored)
    assert told == [True]
