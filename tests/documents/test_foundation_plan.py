"""The foundation plan, item by item, in the order of the document.

Ten subjects, split 70/15/15: a foundation model on the CPU, both challenges, their CSV files. The
environment `plan_004` has the document's values; the runs here are the same with small models.
Phase 6 (latency of inference, FP16) is left out: it is no part of the project yet.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hbn_foundation.project import open_project
from kedro_project import PROJECT, KedroProject

ENV = ("--env", "plan_004")

#: What makes the runs of this module short: small models, short recordings.
SHORT = """
ingestion:
  source:
    simulation: {rest_seconds: 24.0, eyes_open_seconds: 5.0, eyes_closed_seconds: 6.0,
                 ccd_runs: 1, trials_per_run: 6, n_background_sources: 60}
foundation:
  encoder: {hidden_dim: 32, n_heads: 2, n_layers: 1}
  trainer: {epochs: 2, warmup_steps: 2}
  evaluation: {map_method: pca, baselines: [majority, band_power]}
"""


def merged(values: dict, more: dict) -> dict:
    """Replace values of nested dictionaries."""
    both = {name: merged(values[name], more[name]) for name in values.keys() & more.keys()
            if isinstance(more[name], dict)}  # fmt: skip
    return {**values, **more, **both}


class Plan:
    """A project in which the document's commands run one after another."""

    def __init__(self, project: KedroProject) -> None:
        self.project, self.data = project, project.root / "data" / "plan_004"

    def run(self, *arguments: str) -> str:
        """Run a command of the plan to its end; return what it says."""
        result = self.project.kedro("run", *ENV, *arguments, timeout=900)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stderr + result.stdout

    def newest(self, entry: str) -> Path:
        """Give the newest version of a file, named by its path below the data folder."""
        return sorted((self.data / entry).iterdir())[-1] / entry.rsplit("/", 1)[1]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The environment with small models; nothing has run."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("plan"))
    file = project.root / "conf" / "plan_004" / "parameters.yml"
    short = merged(yaml.safe_load(file.read_text()), yaml.safe_load(SHORT))
    file.write_text(yaml.safe_dump(short))
    return Plan(project)


@pytest.fixture(scope="module")
def foundation_log(plan: Plan) -> str:
    """What the foundation pipeline says."""
    return plan.run("--pipeline", "foundation")


# Phase 1: data preparation


@pytest.mark.slow
def test_all_ten_subjects_are_verified(plan, foundation_log):
    """Verify that all 10 subjects have valid data: what is not usable is named, with the reason."""
    quality = pd.read_csv(plan.newest("08_reporting/quality.csv"))
    assert quality["subject"].nunique() == 10
    assert "1 cannot be used: sub-NDARSIM003_task-RestingState: truncated" in foundation_log


@pytest.mark.slow
@pytest.mark.usefixtures("foundation_log")
def test_splits(plan):
    """Create train/validation/test splits (70/15/15), by subject."""
    splits = pd.read_csv(plan.newest("03_primary/splits.csv"), dtype=str)
    assert splits["subject"].is_unique
    assert splits["split"].value_counts().to_dict() == {"train": 7, "validation": 2, "test": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("foundation_log")
def test_clean_signals_are_kept(plan):
    """Implement data caching for speed: a second run simulates and cleans nothing."""
    log = plan.run("--pipeline", "ingestion")
    assert "0 recordings cleaned, 19 unchanged" in log
    assert "Simulated" not in log


@pytest.mark.slow
@pytest.mark.usefixtures("foundation_log")
def test_dataset_statistics(plan):
    """Calculate dataset statistics."""
    statistics = json.loads(plan.newest("08_reporting/dataset_statistics.json").read_text())
    assert statistics["subjects"] == 10
    assert statistics["failed"]["count"] == 1
    assert set(statistics["splits"]) >= {"train", "validation", "test"}
    assert statistics["splits"]["train"]["windows"] > 0


# Phase 2: foundation training


@pytest.mark.slow
def test_training_is_on_the_cpu(plan, foundation_log):
    """Start foundation model training on the CPU, and name the best epoch."""
    plan_of_device = json.loads(plan.newest("06_models/device_plan.json").read_text())
    assert plan_of_device["chosen"] == "cpu"
    checkpoint = plan.newest("06_models/foundation_checkpoint") / "metadata.json"
    assert json.loads(checkpoint.read_text())["best_epoch"] in (1, 2)


# Phase 3: evaluation of the model


@pytest.mark.slow
@pytest.mark.usefixtures("foundation_log")
def test_training_curves_and_confusion_matrix_are_drawn(plan):
    """Calculate the confusion matrix, visualise training curves."""
    for name in ("training_curves", "confusion_matrix"):
        assert plan.newest(f"08_reporting/{name}.png").read_bytes()[1:4] == b"PNG"


# Training configuration


def test_configuration(monkeypatch):
    """The document's CONFIG is what `--env plan_004` has in force."""
    monkeypatch.chdir(PROJECT)
    with open_project("plan_004") as project:
        values = project.config_loader["parameters"]
    ingestion, foundation = values["ingestion"], values["foundation"]
    assert ingestion["selection"]["max_subjects"] == 10
    splits = ingestion["splits"]
    assert [splits[name] for name in ("train", "validation", "test")] == [0.70, 0.15, 0.15]
    model = {"hidden_dim": 256, "n_heads": 8, "n_layers": 4, "dropout": 0.1}
    training = {
        "batch_size": 16, "epochs": 15, "learning_rate": 1e-4, "weight_decay": 1e-5,
        "early_stopping_patience": 5, "checkpoint_every": 1, "validate_every": 1,
        "max_training_time": 6 * 3600,
    }  # fmt: skip
    assert model.items() <= foundation["encoder"].items()
    assert training.items() <= foundation["trainer"].items()
    assert foundation["hardware"]["device"] == "cpu"
