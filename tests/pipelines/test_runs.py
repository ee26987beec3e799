"""Whole runs, reruns of single nodes, tags and versions, as a user makes them."""

import json

import pytest

from kedro_project import SMALL, KedroProject

FIGURES = ("training_curves", "scores", "confusion_matrix", "embedding")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project whose foundation pipeline has run once on a small simulated release."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), SMALL)
    (project.root / "log").write_text(project.run("--pipeline", "foundation"))
    return project


def test_every_result_is_there_and_named(project):
    log = (project.root / "log").read_text()
    for name in ("foundation_checkpoint", "foundation_metrics", "signal_store", "device_plan"):
        assert name in log
    assert "Next: " in log
    for figure in FIGURES:
        assert project.newest(f"08_reporting/{figure}.png").read_bytes()[1:4] == b"PNG"


def test_report_shows_winners_and_losers(project):
    report = project.newest("08_reporting/foundation_report.txt").read_text()
    for method in ("pretrained encoder", "random encoder", "log band power", "majority class"):
        assert method in report


def test_evaluation_reruns_alone_from_the_checkpoint(project):
    before = project.versions("06_models/foundation_checkpoint")
    scores = json.loads(project.newest("08_reporting/foundation_metrics.json").read_text())
    project.run("--pipeline", "foundation", "--from-nodes", "evaluate_encoder")
    assert project.versions("06_models/foundation_checkpoint") == before
    again = json.loads(project.newest("08_reporting/foundation_metrics.json").read_text())
    assert len(project.versions("08_reporting/foundation_metrics.json")) >= 2
    assert again["probe"] == scores["probe"]


def test_single_node_and_tag(project):
    before = len(project.versions("08_reporting/dataset_statistics.json"))
    project.run("--pipeline", "foundation", "--nodes", "describe_dataset")
    assert len(project.versions("08_reporting/dataset_statistics.json")) == before + 1
    before = len(project.versions("06_models/foundation_history.csv"))
    project.run("--pipeline", "foundation", "--tags", "training")
    assert len(project.versions("06_models/foundation_history.csv")) == before + 1


def test_earlier_version_of_the_checkpoint(project):
    first = project.versions("06_models/foundation_checkpoint")[0]
    project.run("--pipeline", "foundation", "--nodes", "evaluate_encoder",
        "--load-versions", f"foundation_checkpoint:{first}",
    )  # fmt: skip
    record = sorted((project.data / "runs").glob("*/run.json"))[-1]
    assert json.loads(record.read_text())["load_versions"] == {"foundation_checkpoint": first}
