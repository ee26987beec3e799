"""The ingestion pipeline on a catalog in memory."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.io.placed_subjects import PlacedSubjectsDataset
from hbn_foundation.labels.params import LabelParams, SplitParams, TrialParams
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
        "splits": SplitParams(),
        "trials": TrialParams(),
        "windows": WindowParams(),
    }
    given = {f"params:ingestion.{name}": value for name, value in parameters.items()}
    given |= {
        "params:foundation": FoundationRecipe(),
        "params:finetuning": LabelRecipe(),
    }
    given["data_check"] = {}
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in given.items()})
    for name in ("placed_before", "placed_subjects"):
        catalog[name] = PlacedSubjectsDataset(filepath=str(tmp_path / "placed.csv"))
    return catalog


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


def test_a_run_with_more_subjects_moves_nobody(catalog, tmp_path):
    catalog["params:ingestion.selection"] = SelectionParams(max_subjects=4)
    few = run(catalog, "splits")["splits"]
    assert len(run(catalog, "recordings")["participants"]) == 4
    catalog["params:ingestion.selection"] = SelectionParams()
    more = run(catalog, "splits")["splits"]
    assert len(few) == 4
    assert len(more) == more["subject"].nunique() == 6
    assert set(more["split"]) == {"train", "validation", "test"}
    assert len(few.merge(more, on=["subject", "split"])) == 4
    assert set(more["method"]) == {"stratified"}
    assert len((tmp_path / "placed.csv").read_text().splitlines()) == 7


def test_splits_are_stratified_by_what_is_learned_of_subjects(catalog, caplog):
    learned = LabelParams(kind="participant", column="p_factor", type="regression")
    catalog["params:finetuning"] = LabelRecipe(label=learned)
    with caplog.at_level("INFO"):
        run(catalog, "splits")
    assert "stratified by p_factor, age, sex" in caplog.text


def test_a_root_that_was_mended_is_read(tiny_bids, tmp_path):
    wrong = {"root": str(tmp_path / "absent"), "simulated": False}
    recordings, _ = nodes.list_recordings(
        wrong, SourceParams(root=str(tiny_bids)), SelectionParams()
    )
    assert set(recordings["bids_root"]) == {str(tiny_bids)}


def test_trials_are_those_that_were_simulated(catalog, tiny_bids):
    trials = run(catalog, "trials")["trials"]
    path = tiny_bids / "derivatives" / "ground_truth" / "trials.tsv"
    truth = pd.read_csv(path, sep="\t", dtype={"subject": str})
    keys = ["subject", "trial"]
    both = truth.merge(trials, on=keys, suffixes=("_true", ""), validate="one_to_one")
    assert len(both) == len(truth) == trials["stimulus"].notna().sum()
    np.testing.assert_allclose(both["stimulus"], both["onset_true"], atol=0.0011)
    np.testing.assert_allclose(both["rt"], both["rt_true"], atol=0.0021)
    answered = both["rt_true"].notna()
    assert ((both["excluded"] == "") == answered).all()
    assert (both["side"] == both["side_true"]).all()
    assert (both["correct"] == both["correct_true"])[answered].all()
    assert (both["n_presses"] == both["n_presses_true"]).all()


def test_recordings_without_events_have_no_trials(catalog, eegmat_root):
    catalog["params:ingestion.source"] = SourceParams(root=str(eegmat_root))
    trials = run(catalog, "trials")["trials"]
    assert trials.empty
    assert {"recording", "subject", "rt", "correct", "excluded"} <= set(trials)
