"""Versions of a run, and names of parameters."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from versioned_entries import (
    CHAIN,
    JOINED,
    LAST,
    LATER,
    NEW,
    OLD,
    RUN_ID,
    add,
    catalog_of,
    double,
    save,
    start,
)

from hbn_foundation.errors import UserError
from hbn_foundation.hooks import (
    ParameterNames,
    RunReport,
    RunVersions,
    claim_version,
    known_parameters,
)
from hbn_foundation.training.supervision.supervisor import TrainingStopped

CHECKPOINT, METRICS = REPORT = ["foundation_checkpoint", "foundation_metrics"]


def test_a_run_reads_what_it_made_and_what_was_there_when_it_began(tmp_path):
    save(tmp_path, "first", NEW)
    catalog = catalog_of(tmp_path)
    hook = RunVersions()
    run_params = {"run_id": RUN_ID, "project_path": str(tmp_path)}
    hook.before_pipeline_run(run_params=run_params, pipeline=CHAIN, catalog=catalog)
    catalog.save("second", 2)
    for name in ("first", "second"):
        save(tmp_path, name, LATER, 666)
    assert (catalog.load("first"), catalog.load("second")) == (1, 2)
    # without the pin, Kedro only warns when what was saved is not what it would load
    dataset = catalog.get("third")
    dataset._version = dataset._version._replace(load=LATER)
    with pytest.raises(UserWarning, match="did not match load version"):
        catalog.save("third", 2)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"second": "x"}, "this run makes second itself"),
        ({"first": "2020"}, r"first: no version 2020.*there are 2025-01-01"),
    ],
)
def test_versions_that_cannot_be_read_are_refused(tmp_path, asked, says):
    save(tmp_path, "first", NEW)
    with pytest.raises(UserError, match=says):
        start(CHAIN, catalog_of(tmp_path), tmp_path, load_versions=asked)


def test_asked_version_brings_what_the_same_run_made(tmp_path):
    for version, value in ((OLD, 1), (NEW, 10)):
        save(tmp_path, "first", version, value)
        save(tmp_path, "second", version, value)
    catalog = catalog_of(tmp_path)
    start(JOINED, catalog, tmp_path, load_versions={"first": OLD})
    assert (catalog.load("first"), catalog.load("second")) == (1, 1)


def test_asked_version_brings_what_its_run_has_read_and_what_was_made_of_it(tmp_path):
    save(tmp_path, "first", OLD)
    start(CHAIN.only_nodes("a"), catalog_of(tmp_path), tmp_path)
    save(tmp_path, "second", RUN_ID, 2)
    for name in ("first", "second"):
        save(tmp_path, name, LATER, 666)
    for asked in ({"first": OLD}, {"second": RUN_ID}):
        catalog = catalog_of(tmp_path, version=LAST)
        start(JOINED, catalog, tmp_path, load_versions=asked, run_id=LAST)
        assert (catalog.load("first"), catalog.load("second")) == (1, 2)


@pytest.fixture
def evaluated(tmp_path) -> str:
    """Two checkpoints, of which the older one is evaluated by a later run; return its version."""
    for version in (OLD, NEW):
        save(tmp_path, CHECKPOINT, version)
    evaluation = Pipeline([node(double, CHECKPOINT, METRICS, name="evaluate")])
    start(evaluation, catalog_of(tmp_path, REPORT), tmp_path, load_versions={CHECKPOINT: OLD})
    save(tmp_path, METRICS, RUN_ID, 2)
    return RUN_ID


def report_in(folder: Path, names: list[str] = REPORT, asked: dict | None = None) -> list[str]:
    """Start a report of a checkpoint and another entry; the versions that it reads."""
    catalog = catalog_of(folder, names, LATER)
    pipeline = Pipeline([node(add, names, "text", name="report")])
    start(pipeline, catalog, folder, run_id=LATER, load_versions=asked or {})
    return [catalog.get(name).resolve_load_version() for name in names]


def test_report_of_parts_of_two_checkpoints_is_refused(tmp_path, evaluated):
    line = f"foundation_metrics of {evaluated} belongs to the foundation_checkpoint of {OLD}, "
    line += f"but that of {NEW} .*--load-versions foundation_checkpoint:{OLD}"
    for asked in ({}, {CHECKPOINT: NEW, METRICS: evaluated}):
        with pytest.raises(UserError, match=line):
            report_in(tmp_path, asked=asked)
    for asked in ({CHECKPOINT: OLD}, {METRICS: RUN_ID}):
        assert report_in(tmp_path, asked=asked) == [OLD, evaluated]
    # a history is saved with its checkpoint, so that its version says whose it is
    save(tmp_path, "foundation_history", OLD)
    with pytest.raises(UserError, match=f"foundation_history of {OLD} belongs to"):
        report_in(tmp_path, [CHECKPOINT, "foundation_history"])


def test_inputs_of_two_runs_are_told(tmp_path, caplog):
    save(tmp_path, "first", NEW)
    save(tmp_path, "second", OLD)
    with caplog.at_level("INFO"):
        start(JOINED, catalog_of(tmp_path), tmp_path)
    assert "Reading results of 2 runs: second of 2024" in caplog.text


def reported(pipeline: Pipeline, catalog: DataCatalog | None = None, finished: int = 0, **asked):
    """The report of a run some of whose nodes are done."""
    report = RunReport()
    asked = {"pipeline_names": ["x"], **asked}
    report.before_pipeline_run(
        run_params=asked, pipeline=pipeline, catalog=catalog or DataCatalog()
    )
    for done in pipeline.nodes[:finished]:
        report.before_node_run(node=done)
        report.after_node_run(node=done)
    return report


def test_stopped_run_tells_all_nodes_to_go_on_from(tmp_path, caplog):
    pipeline = CHAIN + Pipeline(
        [node(double, "second", "fourth", name="c"), node(double, "fourth", "fifth", name="d")]
    )
    asked = {"env": "hbn", "runtime_params": {"a": {"b": 3}}, "to_nodes": ["d"]}
    with caplog.at_level("INFO"):
        report = reported(pipeline, **asked)
        report.on_pipeline_error(error=ValueError())
        assert "--from-nodes" not in caplog.text
        assert report.again() == "kedro run --pipeline x --to-nodes d --env hbn --params a.b=3"
        report = reported(pipeline, finished=1, **asked)
        report.on_pipeline_error(error=ValueError())
        again = "kedro run --pipeline x --from-nodes b,c --to-nodes d --env hbn --params a.b=3"
        assert f"to go on: {again}" in caplog.text
        report.on_pipeline_error(error=UserError("no such label"))
        report.on_pipeline_error(error=TrainingStopped("stopped", 2))
    assert caplog.text.count("to go on: ") == 1
    assert report.once_mended() is None  # nothing is in files yet
    assert reported(pipeline, catalog_of(tmp_path), **asked).once_mended() is None
    mended = reported(pipeline, catalog_of(tmp_path), finished=1, **asked).once_mended()
    assert mended.endswith("once that is mended, go on with --from-nodes b,c")


@pytest.mark.parametrize(
    ("asked", "finished", "expected"),
    [
        ({"node_names": ["a", "b"]}, 0, "--nodes a,b"),
        ({"node_names": ["a", "b"]}, 1, "--nodes b"),
        ({"load_versions": {"first": "2020"}}, 0, "--load-versions first:2020"),
        ({"to_outputs": ["third"]}, 1, "--from-nodes b --to-outputs third"),
    ],
)
def test_stopped_run_goes_on_with_what_it_was_asked_for(asked, finished, expected):
    again = reported(CHAIN, finished=finished, **asked).again()
    assert again == f"kedro run --pipeline x {expected}"


def test_after_a_mistake_in_the_data_the_ingestion_comes_first(tmp_path):
    pipeline = Pipeline(
        [node(double, "trials", "second", name="a"), node(double, "second", "third", name="b")]
    )
    report = reported(pipeline, catalog_of(tmp_path), finished=1, env="mine")
    first = "(changed data: after kedro run --pipeline ingestion --env mine)"
    assert report.once_mended() == (
        f"What is done is kept; once that is mended {first}, go on with --from-nodes b"
    )


def test_runs_in_one_millisecond_get_versions_of_their_own(tmp_path):
    run_params = {"run_id": RUN_ID, "project_path": str(tmp_path)}
    versions = [claim_version(run_params, tmp_path / "runs") for _ in range(3)]
    assert versions == [RUN_ID, "2026-01-01T00.00.01.000Z", "2026-01-01T00.00.01.001Z"]
    record = json.loads((tmp_path / "runs" / versions[2] / "run.json").read_text())
    assert record["version"] == versions[2]
    with ThreadPoolExecutor(8) as pool:
        raced = list(pool.map(lambda _: claim_version(run_params, tmp_path / "runs"), range(8)))
    assert len({*versions, *raced}) == 3 + 8


class FakeContext:
    def __init__(self, parameters: dict) -> None:
        self.config_loader = {"parameters": parameters}


def test_misspelt_parameter_group_is_refused():
    assert "foundation.trainer" in known_parameters()
    ParameterNames().after_context_created(FakeContext({"foundation": {"trainer": {}}}))
    for parameters, hint in (
        ({"foundation": {"trainr": {}}}, "did you mean foundation.trainer"),
        ({"epochs": 3}, "parameter epochs: no node reads it"),
    ):
        with pytest.raises(UserError, match=hint):
            ParameterNames().after_context_created(FakeContext(parameters))
