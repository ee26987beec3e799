"""Versions of a run, and names of parameters."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.hooks import (
    ParameterNames,
    RunReport,
    RunVersions,
    claim_version,
    known_parameters,
)
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipeline_registry import register_pipelines
from hbn_foundation.training.supervision.supervisor import TrainingStopped

OLD, NEW = "2024-01-01T00.00.00.000Z", "2025-01-01T00.00.00.000Z"
RUN_ID = "2026-01-01T00.00.00.999Z"


def double(value: int) -> int:
    return 2 * value


def add(left: int, right: int) -> int:
    return left + right


@pytest.fixture
def chain() -> Pipeline:
    return Pipeline(
        [
            node(double, "first", "second", name="a"),
            node(double, "second", "third", name="b"),
        ]
    )


def catalog_of(folder: Path, save_version: str) -> DataCatalog:
    names = ["first", "second", "third"]
    config = {
        name: {
            "type": "json.JSONDataset",
            "filepath": str(folder / f"{name}.json"),
            "versioned": True,
        }
        for name in names
    }
    return DataCatalog.from_config(config, save_version=save_version)


def save_version_of(folder: Path, name: str, version: str, value: int) -> None:
    path = folder / f"{name}.json" / version / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(value))


def start(
    hook: RunVersions, pipeline: Pipeline, catalog: DataCatalog, folder: Path, **more
) -> None:
    run_params = {"run_id": RUN_ID, "project_path": str(folder)} | more
    hook.before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)


def test_output_is_read_in_its_own_version_though_a_later_one_exists(tmp_path, chain):
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    start(RunVersions(), chain, catalog, tmp_path)
    catalog.save("second", 2)
    save_version_of(tmp_path, "second", "2027-01-01T00.00.00.000Z", 666)
    assert catalog.load("second") == 2


def test_input_is_fixed_when_the_run_starts(tmp_path, chain):
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    start(RunVersions(), chain, catalog, tmp_path)
    save_version_of(tmp_path, "first", "2027-01-01T00.00.00.000Z", 666)
    assert catalog.load("first") == 1


def test_asked_version_of_an_input_is_read(tmp_path, chain):
    save_version_of(tmp_path, "first", "2024-01-01T00.00.00.000Z", 7)
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    asked = {"first": "2024-01-01T00.00.00.000Z"}
    start(RunVersions(), chain, catalog, tmp_path, load_versions=asked)
    assert catalog.load("first") == 7


def test_asked_version_of_an_output_is_refused(tmp_path, chain):
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    with pytest.raises(UserError, match="this run makes second itself"):
        start(RunVersions(), chain, catalog, tmp_path, load_versions={"second": "x"})


def test_version_that_is_not_there_names_those_that_are(tmp_path, chain):
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    with pytest.raises(UserError, match=r"first: no version 2020.*there are 2025-01-01"):
        start(RunVersions(), chain, catalog, tmp_path, load_versions={"first": "2020"})


@pytest.fixture
def joined() -> Pipeline:
    return Pipeline([node(add, ["first", "second"], "third", name="add")])


def test_asked_version_brings_what_the_same_run_made(tmp_path, joined):
    for version, value in ((OLD, 1), (NEW, 10)):
        save_version_of(tmp_path, "first", version, value)
        save_version_of(tmp_path, "second", version, value)
    catalog = catalog_of(tmp_path, RUN_ID)
    start(RunVersions(), joined, catalog, tmp_path, load_versions={"first": OLD})
    assert (catalog.load("first"), catalog.load("second")) == (1, 1)


def test_asked_version_brings_what_its_run_has_read_and_what_was_made_of_it(tmp_path, joined):
    save_version_of(tmp_path, "first", OLD, 1)
    start(RunVersions(), Pipeline([node(double, "first", "second", name="a")]),
          catalog_of(tmp_path, RUN_ID), tmp_path)  # fmt: skip
    save_version_of(tmp_path, "second", RUN_ID, 2)
    for name in ("first", "second"):
        save_version_of(tmp_path, name, "2027-01-01T00.00.00.000Z", 666)
    later = "2028-01-01T00.00.00.000Z"
    for asked in ({"first": OLD}, {"second": RUN_ID}):
        catalog = catalog_of(tmp_path, later)
        start(RunVersions(), joined, catalog, tmp_path, load_versions=asked, run_id=later)
        assert (catalog.load("first"), catalog.load("second")) == (1, 2)


REPORT = ["foundation_checkpoint", "foundation_metrics"]


def of_foundation(folder: Path, save_version: str = RUN_ID) -> DataCatalog:
    config = {
        name: {"type": "json.JSONDataset", "filepath": str(folder / name), "versioned": True}
        for name in REPORT
    }
    return DataCatalog.from_config(config, save_version=save_version)


@pytest.fixture
def report() -> Pipeline:
    return Pipeline([node(add, REPORT, "text", name="report")])


@pytest.fixture
def evaluated(tmp_path) -> str:
    """Two checkpoints, of which the older one is evaluated by a later run; return its version."""
    for version in (OLD, NEW):
        path = tmp_path / REPORT[0] / version / REPORT[0]
        path.parent.mkdir(parents=True)
        path.write_text("1")
    evaluation = Pipeline([node(double, REPORT[0], REPORT[1], name="evaluate")])
    catalog = of_foundation(tmp_path)
    start(RunVersions(), evaluation, catalog, tmp_path, load_versions={REPORT[0]: OLD})
    catalog.save(REPORT[1], 2)
    return RUN_ID


LATER = "2027-01-01T00.00.00.000Z"


def test_report_of_parts_of_two_checkpoints_is_refused(tmp_path, report, evaluated):
    line = f"foundation_metrics of {evaluated} belongs to the foundation_checkpoint of {OLD}, "
    line += f"but that of {NEW} .*--load-versions foundation_checkpoint:{OLD}"
    for asked in ({}, {REPORT[0]: NEW, REPORT[1]: evaluated}):
        with pytest.raises(UserError, match=line):
            start(RunVersions(), report, of_foundation(tmp_path, LATER), tmp_path, run_id=LATER,
                  load_versions=asked)  # fmt: skip


@pytest.mark.parametrize("asked", [{REPORT[0]: OLD}, {REPORT[1]: RUN_ID}])
def test_checkpoint_that_was_evaluated_later_is_reported(tmp_path, report, evaluated, asked):
    catalog = of_foundation(tmp_path, LATER)
    start(RunVersions(), report, catalog, tmp_path, run_id=LATER, load_versions=asked)
    found = [catalog.get(name).resolve_load_version() for name in REPORT]
    assert found == [OLD, evaluated]


def test_history_of_another_run_is_refused(tmp_path, evaluated):
    """A history is saved with its checkpoint, so that its version says whose it is."""
    name = "foundation_history"
    save_version_of(tmp_path, name, OLD, 1)
    config = {name: {"type": "json.JSONDataset", "filepath": str(tmp_path / f"{name}.json"),
                     "versioned": True}}  # fmt: skip
    catalog = of_foundation(tmp_path, LATER)
    catalog[name] = DataCatalog.from_config(config, save_version=LATER).get(name)
    pipeline = Pipeline([node(add, [REPORT[0], name], "text", name="report")])
    with pytest.raises(UserError, match=f"foundation_history of {OLD} belongs to"):
        start(RunVersions(), pipeline, catalog, tmp_path, run_id=LATER)


def test_inputs_of_two_runs_are_told(tmp_path, caplog):
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    save_version_of(tmp_path, "second", "2024-01-01T00.00.00.000Z", 1)
    pipeline = Pipeline([node(add, ["first", "second"], "third", name="add")])
    with caplog.at_level("INFO"):
        start(RunVersions(), pipeline, catalog_of(tmp_path, RUN_ID), tmp_path)
    assert "Reading results of 2 runs: second of 2024" in caplog.text


def test_stopped_run_tells_all_nodes_to_go_on_from(tmp_path, caplog):
    pipeline = Pipeline(
        [
            node(double, "first", "second", name="a"),
            node(double, "second", "third", name="b"),
            node(double, "second", "fourth", name="c"),
            node(double, "fourth", "fifth", name="d"),
        ]
    )
    report = RunReport()
    params = {"pipeline_names": ["x"], "env": "hbn", "runtime_params": {"a": {"b": 3}}}
    asked = {**params, "to_nodes": ["d"]}
    report.before_pipeline_run(run_params=asked, pipeline=pipeline, catalog=DataCatalog())
    with caplog.at_level("INFO"):
        report.on_pipeline_error(error=ValueError())
        assert "--from-nodes" not in caplog.text
        assert report.again() == "kedro run --pipeline x --to-nodes d --env hbn --params a.b=3"
        report.before_node_run(node=pipeline.nodes[0])
        report.after_node_run(node=pipeline.nodes[0])
        report.on_pipeline_error(error=ValueError())
        again = "kedro run --pipeline x --from-nodes b,c --to-nodes d --env hbn --params a.b=3"
        assert f"to go on: {again}" in caplog.text
        report.on_pipeline_error(error=UserError("no such label"))
        report.on_pipeline_error(error=TrainingStopped("stopped", 2))
    assert report.once_mended() is None  # nothing is in files yet
    report.before_pipeline_run(
        run_params=asked, pipeline=pipeline, catalog=catalog_of(tmp_path, RUN_ID)
    )
    assert report.once_mended() is None
    report.before_node_run(node=pipeline.nodes[0])
    report.after_node_run(node=pipeline.nodes[0])
    assert report.once_mended().endswith("once that is mended, go on with --from-nodes b,c")
    assert caplog.text.count("to go on: ") == 1


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
    pipeline = Pipeline(
        [node(double, "first", "second", name="a"), node(double, "second", "third", name="b")]
    )
    report = RunReport()
    asked = {"pipeline_names": ["x"], **asked}
    report.before_pipeline_run(run_params=asked, pipeline=pipeline, catalog=DataCatalog())
    for done in pipeline.nodes[:finished]:
        report.before_node_run(node=done)
        report.after_node_run(node=done)
    assert report.again() == f"kedro run --pipeline x {expected}"


def test_after_a_mistake_in_the_data_the_ingestion_comes_first(tmp_path):
    pipeline = Pipeline(
        [node(double, "trials", "second", name="a"), node(double, "second", "third", name="b")]
    )
    report = RunReport()
    asked = {"pipeline_names": ["x"], "env": "mine"}
    catalog = catalog_of(tmp_path, RUN_ID)
    report.before_pipeline_run(run_params=asked, pipeline=pipeline, catalog=catalog)
    report.before_node_run(node=pipeline.nodes[0])
    report.after_node_run(node=pipeline.nodes[0])
    first = "(changed data: after kedro run --pipeline ingestion --env mine)"
    assert report.once_mended() == (
        f"What is done is kept; once that is mended {first}, go on with --from-nodes b"
    )


def test_missing_input_is_one_line(tmp_path, chain):
    with pytest.raises(UserError, match=r"first: nothing saved yet at .*a node that makes it"):
        start(RunVersions(), chain, catalog_of(tmp_path, RUN_ID), tmp_path)


def test_missing_input_names_the_command_that_makes_it(tmp_path):
    entry = {"type": "json.JSONDataset", "filepath": str(tmp_path / "t.json"), "versioned": True}
    catalog = DataCatalog.from_config({"trials": entry}, save_version=RUN_ID)
    pipeline = Pipeline([node(double, "trials", "second", name="a")])
    command = "kedro run --pipeline ingestion --to-nodes list_trials --env hbn"
    with pytest.raises(UserError, match=f"trials: nothing saved yet at .*; make it by {command}"):
        start(RunVersions(), pipeline, catalog, tmp_path, env="hbn")


def all_entries(folder: Path, names: set[str]) -> DataCatalog:
    config = {
        name: {"type": "json.JSONDataset", "filepath": str(folder / name), "versioned": True}
        for name in names
    }
    return DataCatalog.from_config(config, save_version=RUN_ID)


def made_by_pipelines() -> set[str]:
    return set().union(*(one.all_outputs() for one in register_pipelines().values()))


@pytest.mark.parametrize(
    ("pipeline", "commands"),
    [
        ("finetuning", ["--pipeline foundation --to-nodes list_trials,pretrain_encoder"]),
        (
            "submission",
            [
                "--pipeline foundation --to-nodes list_trials,pretrain_encoder",
                "--pipeline challenge1 --to-nodes challenge1.predict",
                "--pipeline challenge2 --to-nodes challenge2.evaluate",
            ],
        ),
    ],
)
def test_all_that_is_missing_is_named_with_the_commands_that_make_it(tmp_path, pipeline, commands):
    catalog = all_entries(tmp_path, made_by_pipelines())
    label = LabelParams(kind="trial", column="rt")
    catalog["params:finetuning"] = LabelRecipe(label=label)
    catalog["params:ingestion.source"] = {}
    with pytest.raises(UserError) as raised:
        start(RunVersions(), register_pipelines()[pipeline], catalog, tmp_path, env="eegmat")
    text = str(raised.value)
    missing = ("signal_store", "splits") if pipeline == "submission" else ("dataset",)
    assert all(name in text for name in missing)
    line = " && ".join(f"kedro run {command} --env eegmat" for command in commands)
    assert text.endswith(f"; make them by {line}")


def test_other_data_sets_that_have_it_are_named(tmp_path, chain):
    for folder in ("mine", "yours"):
        save_version_of(tmp_path / folder / "01_raw", "first", OLD, 1)
    catalog = catalog_of(tmp_path / "simulated" / "01_raw", RUN_ID)
    with pytest.raises(UserError, match=r"It is there for mine, yours: .*root$"):
        start(RunVersions(), chain, catalog, tmp_path)


def test_label_of_tasks_needs_no_trials(tmp_path):
    pipeline = register_pipelines()["finetuning"].only_nodes("finetuning.prepare")
    names = made_by_pipelines()
    for kind in ("task", "trial"):
        catalog = all_entries(tmp_path, names)
        label = {"kind": kind, "column": "rt"} if kind == "trial" else {"kind": kind}
        catalog["params:finetuning"] = LabelRecipe.model_validate({"label": label})
        for name in ("foundation_checkpoint", "dataset"):
            path = tmp_path / name / OLD / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1")
        if kind == "task":
            start(RunVersions(), pipeline, catalog, tmp_path)
            assert catalog.load("trials") is None
        else:
            with pytest.raises(UserError, match=r"^trials: nothing saved yet .* list_trials$"):
                start(RunVersions(), pipeline, catalog, tmp_path)


def test_saved_elsewhere_in_between_is_an_error(tmp_path, chain):
    """Without the pin, Kedro only warns when the saved version is not the one it would load."""
    save_version_of(tmp_path, "first", "2025-01-01T00.00.00.000Z", 1)
    catalog = catalog_of(tmp_path, RUN_ID)
    hook = RunVersions()
    start(hook, chain, catalog, tmp_path)
    dataset = catalog.get("second")
    assert isinstance(dataset, JSONDataset)
    dataset._version = dataset._version._replace(load="2027-01-01T00.00.00.000Z")
    with pytest.raises(UserWarning, match="did not match load version"):
        catalog.save("second", 2)


def test_two_runs_in_one_millisecond_get_two_versions(tmp_path):
    run_params = {"run_id": RUN_ID, "project_path": str(tmp_path)}
    versions = [claim_version(run_params, tmp_path / "runs") for _ in range(3)]
    assert versions == [RUN_ID, "2026-01-01T00.00.01.000Z", "2026-01-01T00.00.01.001Z"]
    record = json.loads((tmp_path / "runs" / versions[2] / "run.json").read_text())
    assert record["version"] == versions[2]


class FakeContext:
    def __init__(self, parameters: dict) -> None:
        self.config_loader = {"parameters": parameters}


def test_known_parameter_names_pass():
    names = known_parameters()
    assert "foundation.trainer" in names
    ParameterNames().after_context_created(FakeContext({"foundation": {"trainer": {}}}))


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ({"foundation": {"trainr": {}}}, "did you mean foundation.trainer"),
        ({"epochs": 3}, "parameter epochs: no node reads it"),
    ],
)
def test_misspelt_parameter_group_is_refused(parameters, hint):
    with pytest.raises(UserError, match=hint):
        ParameterNames().after_context_created(FakeContext(parameters))


NODES = dedent(
    """
    import random, time
    def make(tag):
        time.sleep(random.random())
        return {"tag": tag}
    def carry(first):
        time.sleep(random.random())
        return first
    """
)
SETTINGS = "from hbn_foundation.hooks import RunVersions\nHOOKS = (RunVersions(),)\n"
REGISTRY = dedent(
    """
    from kedro.pipeline import Pipeline, node
    from overlap.nodes import carry, make
    def register_pipelines():
        return {"__default__": Pipeline([
            node(make, "params:tag", "first", name="make"),
            node(carry, "first", "second", name="carry"),
            node(carry, "second", "third", name="carry_on"),
        ])}
    """
)


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "overlap"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "nodes.py").write_text(NODES)
    (package / "settings.py").write_text(SETTINGS)
    (package / "pipeline_registry.py").write_text(REGISTRY)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "overlap"\nproject_name = "overlap"\n'
        'kedro_init_version = "1.7.0"\nsource_dir = "src"\n'
    )
    (tmp_path / ".telemetry").write_text("consent: false\n")
    base = tmp_path / "conf" / "base"
    base.mkdir(parents=True)
    (tmp_path / "conf" / "local").mkdir()
    (base / "catalog.yml").write_text(
        "".join(
            f"{name}:\n  type: json.JSONDataset\n  filepath: data/{name}.json\n  versioned: true\n"
            for name in ("first", "second", "third")
        )
    )
    (base / "parameters.yml").write_text("tag: none\n")
    return tmp_path


def test_eight_overlapping_runs_do_not_mix(small_project):
    command = [sys.executable, "-m", "kedro", "run", "--params"]
    runs = [
        subprocess.Popen(
            [*command, f"tag=run{i}"], cwd=small_project, stderr=subprocess.PIPE, text=True
        )
        for i in range(8)
    ]
    for run in runs:
        _, log = run.communicate(timeout=240)
        assert run.returncode == 0, log
    found = {}
    for record in (small_project / "data" / "runs").glob("*/run.json"):
        version = record.parent.name
        asked = json.loads(record.read_text())["runtime_params"]["tag"]
        found[asked] = {
            json.loads((small_project / "data" / f"{n}.json" / version / f"{n}.json").read_text())[
                "tag"
            ]
            for n in ("first", "second", "third")
        }
    assert found == {f"run{i}": {f"run{i}"} for i in range(8)}
