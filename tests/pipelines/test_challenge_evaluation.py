"""The evaluation of both challenges alone, from predictions to the page, by their pipelines."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.params import FactorEvaluationParams, ResponseTimeEvaluationParams
from hbn_foundation.evaluation.predictions import predict_numbers, predict_response_times
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.pipelines import finetuning
from planted_trials import (
    FACTORS,
    Planted,
    dataset_of,
    plant,
    pretrained_on,
    tuned_for_factors,
    tuned_for_times,
)

NAMED = {"F": 0.0, "M": 1.0}


RECIPES = {"challenge1": Challenge1Recipe, "challenge2": Challenge2Recipe}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    """As ingestion has it: the sex of participants is a letter."""
    found = plant(tmp_path_factory.mktemp("planted"))
    letters = found.people["sex"].map({code: name for name, code in NAMED.items()})
    return found._replace(people=found.people.assign(sex=letters))


@pytest.fixture(scope="module")
def foundation(planted, tmp_path_factory):
    return pretrained_on(planted, tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def times(planted, foundation, tmp_path_factory) -> dict:
    """Data of challenge 1."""
    checkpoint, history = tuned_for_times(planted, foundation, tmp_path_factory.mktemp("times"))
    predictions = predict_response_times(checkpoint, dataset_of(planted))
    return {"checkpoint": checkpoint, "history": history, "predictions": predictions}


def run(planted: Planted, name: str, data: dict, evaluation) -> dict:
    """Run the evaluation of a challenge, without a model from scratch; all it makes, by name."""
    none = pd.DataFrame()
    data = {"scratch_predictions": none, "fold_answers": none, "fold_sample": {}, **data}
    pipeline = getattr(finetuning, f"create_{name}")().from_nodes(f"{name}.evaluate")
    given = {
        f"params:{name}": RECIPES[name](evaluation=evaluation),
        f"{name}.dataset": dataset_of(planted),
        **{f"{name}.{key}": value for key, value in data.items()},
    }  # fmt: skip
    for node in pipeline.nodes:  # one at a time: a run forgets what none of its nodes wants
        catalog = DataCatalog({key: MemoryDataset(given[key]) for key in node.inputs})
        made = SequentialRunner().run(pipeline.only_nodes(node.name), catalog)
        given |= {key: dataset.load() for key, dataset in made.items()}
    return {key.removeprefix(f"{name}."): given[key] for key in pipeline.all_outputs()}


def test_response_times(planted, times):
    scratch = times["predictions"].assign(predicted_rt=1.6)
    params = ResponseTimeEvaluationParams(
        bootstraps=40, baselines=("constant", "age_sex", "band_power", "random_weights")
    )
    found = run(planted, "challenge1", {**times, "scratch_predictions": scratch}, params)
    scores = by_method(found["scores"]).set_index("method")
    assert scores.index[0] == "fine_tuned"
    assert scores.loc["scratch", "nrmse"] > 0.99
    assert scores.loc["age_sex", "nrmse"] > 0.9
    assert len(found["answers"]) == len(scores) * len(times["predictions"])
    assert len(found["challenge1_csv"]) == len(times["predictions"])
    assert "from scratch" in found["report"]
    assert found["metrics"]["table_problem"] is None
    assert "CSV of the predictions" in found["report"]
    for title in ("Scores of all methods", "Channels that the model", "Course of the"):
        assert title in found["page"]
    assert times["checkpoint"].metadata["run_id"] in found["page"]
    assert found["answers_figure"].axes
    assert found["spatial_figure"].axes


def test_factors(planted, foundation, tmp_path_factory):
    checkpoint, history = tuned_for_factors(planted, foundation, tmp_path_factory.mktemp("factors"))
    windows = planted.windows.merge(planted.people[["subject", *FACTORS]], on="subject")
    predictions = predict_numbers(checkpoint, dataset_of(planted._replace(windows=windows)))
    data = {"checkpoint": checkpoint, "history": history, "predictions": predictions}
    params = FactorEvaluationParams(bootstraps=40, baselines=("constant", "age_sex", "band_power"))
    found = run(planted._replace(windows=windows), "challenge2", data, params)
    assert set(found["scores"]["target"]) == {*FACTORS, "mean"}
    subjects = found["subject_predictions"]
    assert list(subjects) == [
        "subject", *(column for name in FACTORS for column in (name, f"predicted_{name}")),
        "n_windows", "age", "sex",
    ]  # fmt: skip
    assert len(subjects) == len(found["challenge2_csv"]) == 12
    assert found["metrics"]["table_problem"] is None
    assert subjects["sex"].isin(NAMED.values()).all()
    assert "p factor" in found["page"]
    panels = found["spatial_figure"].axes
    maps = [title for panel in panels if (title := panel.get_title(loc="left"))]
    assert maps == ["p factor", "attention", "internalizing", "externalizing"]
