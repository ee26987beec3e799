"""What a run says at its end works as it is written."""

import shlex
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DataCatalog, MemoryDataset

from hbn_foundation.hooks.report import next_command


def catalog_of(unit1="volts", unit2="volts", columns=("externalizing",), without=()) -> DataCatalog:
    entries = {
        "params:challenge2": {"label": {"kind": "participant", "column": "externalizing"}},
        "participants": pd.DataFrame(columns=["subject", *columns]),
    }
    for name, unit in (("challenge1", unit1), ("challenge2", unit2)):
        metadata = {"parameters": {"input": {"unit": unit}}}
        entries[f"{name}.checkpoint"] = SimpleNamespace(metadata=metadata)
    return DataCatalog(
        {name: MemoryDataset(one) for name, one in entries.items() if name not in without}
    )


def following(pipeline, catalog=None, saved=None, **more):
    params = {"pipeline_names": [pipeline], "env": None, "runtime_params": {}} | more
    return next_command(params, catalog or catalog_of(), saved or {})


def test_environment_and_parameters_go_on():
    asked = {"env": "mine", "runtime_params": {"ingestion": {"source": {"root": "/a b"}}}}
    line = "kedro run --pipeline foundation --env mine --params 'ingestion.source.root=/a b'"
    assert following("ingestion", **asked) == line
    viz = "kedro viz run --env mine --include-hooks --params 'ingestion.source.root=/a b'"
    assert following("foundation", **asked) == viz
    saved = {"submission": "x.zip"}
    score = "hbn-foundation score x.zip --bids-root '/a b'"
    assert following("submission", saved=saved, **asked) == score


VALUES = st.none() | st.booleans() | st.integers() | st.sampled_from(["1e3", "007", "null", "a b"])


@given(value=VALUES)
def test_values_of_parameters_are_read_back_as_they_were(value):
    written = following("ingestion", runtime_params={"a": {"b": value}})
    words = shlex.split(written)[2:]
    assert kedro_run.make_context("run", words).params["params"] == {"a": {"b": value}}


def test_challenges_go_on_to_what_works():
    assert following("challenge1") == "kedro run --pipeline challenge2"
    assert following("challenge1", catalog_of(columns=("age",))) == "kedro viz run"
    assert following("challenge2") == "kedro run --pipeline submission"


def test_a_sweep_follows_its_plan():
    line = "kedro run --pipeline sweep --env mine"
    assert following("sweep", env="mine", to_nodes=["plan"]) == line
    assert following("sweep") == "kedro viz run"


@pytest.mark.parametrize(
    "catalog",
    [
        catalog_of(unit2="store"),
        catalog_of(unit1="store"),
        catalog_of(without=["challenge1.checkpoint"]),
    ],
)
def test_no_submission_is_suggested_of_models_that_are_none(catalog):
    assert (
        following("challenge2", catalog, env="factors")
        == "kedro viz run --env factors --include-hooks"
    )


def test_real_paths_are_named():
    saved = {"submission": "data/a/submission.zip/1/submission.zip"}
    score = "hbn-foundation score data/a/submission.zip/1/submission.zip"
    assert following("submission", saved=saved) == score
