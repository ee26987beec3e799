"""Whole runs, reruns of single nodes, tags and versions, as a user makes them."""

import json

import pytest

from kedro_project import SMALL, KedroProject

FIGURES = ("training_curves", "scores", "confusion_matrix", "embedding")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project whose foundation pipeline has run once on a small simulated release."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"))
    (project.root / "conf" / "local" / "parameters.yml").write_text(SMALL)
    result = run(project, "--pipeline", "foundation")
    (project.root / "log").write_text(result.stderr + result.stdout)
    return project


def run(project: KedroProject, *arguments: str):
    result = project.kedro("run", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def newest(project: KedroProject, entry: str):
    version = project.versions(entry)[-1]
    return project.data / entry / version / entry.rsplit("/", 1)[1]


def test_every_result_is_there_and_named(project):
    log = (project.root / "log").read_text()
    for name in ("foundation_checkpoint", "foundation_metrics", "signal_store", "device_plan"):
        assert name in log
    assert "Next: " in log
    for figure in FIGURES:
        assert newest(project, f"08_reporting/{figure}.png").read_bytes()[1:4] == b"PNG"


def test_report_shows_winners_and_losers(project):
    report = newest(project, "08_reporting/foundation_report.txt").read_text()
    for method in ("pretrained encoder", "random encoder", "log band power", "majority class"):
        assert method in report


def test_evaluation_reruns_alone_from_the_checkpoint(project):
    before = project.versions("06_models/foundation_checkpoint")
    scores = json.loads(newest(project, "08_reporting/foundation_metrics.json").read_text())
    run(project, "--pipeline", "foundation", "--from-nodes", "evaluate_encoder")
    assert project.versions("06_models/foundation_checkpoint") == before
    again = json.loads(newest(project, "08_reporting/foundation_metrics.json").read_text())
    assert len(project.versions("08_reporting/foundation_metrics.json")) >= 2
    assert again["probe"] == scores["probe"]


def test_single_node_and_tag(project):
    before = len(project.versions("08_reporting/dataset_statistics.json"))
    run(project, "--pipeline", "foundation", "--nodes", "describe_dataset")
    assert len(project.versions("08_reporting/dataset_statistics.json")) == before + 1
    before = len(project.versions("06_models/foundation_history.csv"))
    run(project, "--pipeline", "foundation", "--tags", "training")
    assert len(project.versions("06_models/foundation_history.csv")) == before + 1


def test_earlier_version_of_the_checkpoint(project):
    first = project.versions("06_models/foundation_checkpoint")[0]
    run(
        project, "--pipeline", "foundation", "--nodes", "evaluate_encoder",
        "--load-versions", f"foundation_checkpoint:{first}",
    )  # fmt: skip
    record = sorted((project.data / "runs").glob("*/run.json"))[-1]
    assert json.loads(record.read_text())["load_versions"] == {"foundation_checkpoint": first}
