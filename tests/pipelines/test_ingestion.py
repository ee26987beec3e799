"""The ingestion pipeline on a catalog in memory."""

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from hbn_foundation.labels.params import SplitParams
from hbn_foundation.pipelines import ingestion
from hbn_foundation.pipelines.ingestion import nodes
from hbn_foundation.recordings.params import CleaningParams, SelectionParams, SourceParams
from hbn_foundation.signals.params import BuildParams, WindowParams


@pytest.fixture
def catalog(tiny_bids, tmp_path) -> DataCatalog:
    parameters = {
        "source": SourceParams(root=str(tiny_bids)),
        "selection": SelectionParams(),
        "cleaning": CleaningParams(),
        "store": BuildParams(path=str(tmp_path / "signals"), n_jobs=1),
        "splits": SplitParams(method="stratified"),
        "windows": WindowParams(),
    }
    return DataCatalog(
        {f"params:ingestion.{name}": MemoryDataset(value) for name, value in parameters.items()}
    )


def run(catalog: DataCatalog, *to_outputs: str) -> dict:
    pipeline = ingestion.create_pipeline().to_outputs(*to_outputs)
    results = SequentialRunner().run(pipeline, catalog)
    return {name: dataset.load() for name, dataset in results.items()}


def test_from_a_bids_root_to_statistics(catalog):
    outputs = run(catalog, "dataset_statistics", "quality")
    assert len(outputs["quality"]) == 12
    assert set(outputs["quality"]["status"]) == {"ok"}
    assert outputs["dataset_table"].set_index("split").loc["total", "subjects"] == 6
    balance = outputs["dataset_statistics"]["balance"]["total"]
    assert 0.2 < balance["RestingState"] < 0.8
    assert sum(balance.values()) == pytest.approx(1, abs=1e-3)


def test_every_subject_is_in_one_split(catalog):
    splits = run(catalog, "splits")["splits"]
    assert splits["subject"].is_unique
    assert set(splits["split"]) == {"train", "validation", "test"}


def test_participants_are_those_of_the_recordings(catalog):
    catalog["params:ingestion.selection"] = SelectionParams(max_subjects=4)
    participants = run(catalog, "recordings")["participants"]
    assert len(participants) == 4


def test_a_root_that_was_mended_is_read(tiny_bids, tmp_path):
    wrong = {"root": str(tmp_path / "absent"), "simulated": False}
    recordings, _ = nodes.list_recordings(
        wrong, SourceParams(root=str(tiny_bids)), SelectionParams()
    )
    assert set(recordings["bids_root"]) == {str(tiny_bids)}
