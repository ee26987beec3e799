"""The comparison of ways to fine-tune as a user runs it, on a small simulated release."""

import json
import re
import signal

import pandas as pd
import pytest

from kedro_project import SMALL, KedroProject

COMPARED = """
finetuning:
  trainer:
    epochs: 1
    batch_size: 16
  evaluation:
    bootstraps: 20
    baselines: [majority, frozen_probe]
finetuning_comparison:
  runs:
    plans: [head_only, full]
    repeats:
      folds: 2
      repeats: 1
      n_jobs: 2
"""
COMPARISON = ("--pipeline", "finetuning_comparison")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project whose recordings are ingested."""
    text = SMALL.replace("epochs: 2", "epochs: 1") + COMPARED
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), text)
    project.run("--pipeline", "ingestion")
    return project


@pytest.mark.slow
def test_a_comparison_that_is_stopped_goes_on_and_gives_every_result(project):
    process = project.start("run", *COMPARISON)
    said = ""
    for line in process.stdout:
        said += line
        if "majority class" in line and "Stopped" not in said:  # the first run is done
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM, said[-3000:]
    assert "Stopped by SIGTERM; what is done is kept" in said
    assert "Traceback" not in said
    log = project.run(*COMPARISON)
    assert re.search(r"comparison: [1-5] of \d results are kept", log)
    folds = pd.read_csv(project.newest("07_model_output/comparison_folds.csv"))
    methods = {"head_only", "full", "majority", "frozen_probe"}
    assert folds.groupby("fold")["method"].apply(set).tolist() == [methods, methods]
    assert folds.loc[folds["method"] == "full", "epochs"].tolist() == [1, 1]
    assert folds["window_auroc"].between(0, 1).all()
    predictions = pd.read_parquet(project.newest("07_model_output/comparison_predictions.parquet"))
    assert set(predictions["method"]) == methods
    assert predictions.groupby("method")["subject"].nunique().eq(6).all()
    summary = pd.read_csv(project.newest("08_reporting/comparison_summary.csv"))
    assert set(summary["method"]) == methods
    assert summary["reference"].sum() == 1
    report = project.newest("08_reporting/comparison_report.txt").read_text()
    assert "majority class" in report
    assert project.newest("08_reporting/comparison.png").read_bytes()[1:4] == b"PNG"
    for line in project.newest("06_models/comparison_incidents.jsonl").read_text().splitlines():
        assert json.loads(line)["kind"] == "killed"  # in the run that was stopped
    runs = project.data / "06_models" / "finetuning_comparison"
    assert len(list(runs.glob("results/??/*"))) == 6
