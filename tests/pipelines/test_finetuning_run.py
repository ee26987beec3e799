"""Fine-tuning as a user runs it, on a small simulated release; the training dies once."""

import json

import pandas as pd
import pytest

from kedro_project import SMALL, KedroProject

TUNING = """
finetuning:
  plan:
    strategy: two_phase
    phase1_epochs: 1
  trainer:
    epochs: 2
    batch_size: 16
  evaluation:
    bootstraps: 20
finetuning_learning_curve:
  runs:
    subjects: [2]
    seeds: [0]
    frozen: [pretrained, band_power]
    trained: [fine_tuned]
    repeats: {folds: 2, repeats: 1}
    n_jobs: 1
"""
FIGURES = ("finetuning_lr_preview", "finetuning_curves", "finetuning_predictions")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project with a pretrained encoder, fine-tuned once by a process that is killed."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), SMALL + TUNING)
    project.run("--pipeline", "foundation", "--to-nodes", "pretrain_encoder,list_trials")
    switches = "finetuning.fault=kill@3*1,finetuning.regularisation.class_weights=False"
    (project.root / "log").write_text(project.run("--pipeline", "finetuning", "--params", switches))
    return project


def test_every_result_is_there(project):
    for figure in FIGURES:
        assert project.newest(f"08_reporting/{figure}.png").read_bytes()[1:4] == b"PNG"
    predictions = pd.read_parquet(project.newest("07_model_output/finetuning_predictions.parquet"))
    assert len(predictions)
    metrics = json.loads(project.newest("08_reporting/finetuning_metrics.json").read_text())
    assert metrics
    assert len(pd.read_csv(project.newest("08_reporting/finetuning_scores.csv"))) >= 2


def test_it_survived_the_kill(project):
    incidents = project.newest("06_models/finetuning_incidents.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in incidents] == ["died"]
    history = pd.read_csv(project.newest("06_models/finetuning_history.csv"))
    assert history["epoch"].tolist() == [1, 2]
    assert history["trainable"].tolist() == ["head", "band_tokens,block_1,head"]


def test_false_by_params_is_false(project):
    metadata = project.newest("06_models/finetuning_checkpoint") / "metadata.json"
    parameters = json.loads(metadata.read_text())["parameters"]
    assert parameters["regularisation"]["class_weights"] is False
    assert parameters["plan"]["restore_best"] is True


def test_the_phases_are_told(project):
    log = (project.root / "log").read_text()
    assert "phase 1" in log
    assert "phase 2" in log
    assert "parameters are trained" in log


def test_its_curve_over_labelled_subjects(project):
    said = project.run("--pipeline", "finetuning_learning_curve")
    assert "Labelled subjects: task" in said
    assert project.newest("08_reporting/finetuning_learning_curve.png").read_bytes()[1:4] == b"PNG"
    scores = pd.read_csv(project.newest("08_reporting/finetuning_learning_curve.csv"))
    summary = pd.read_csv(project.newest("08_reporting/finetuning_learning_curve_summary.csv"))
    for table in (scores, summary):
        assert set(table["method"]) == {"fine_tuned", "pretrained", "band_power"}
    assert (summary["n_folds"] == 2).all()


def test_it_goes_on_from_a_fine_tuned_checkpoint(project):
    """The newest one, or the one that is named, head included; its run has read no other."""
    first = project.newest("06_models/finetuning_checkpoint")
    go_on = "finetuning.checkpoint=finetuning_checkpoint,finetuning.keep_head=true"
    project.run("--pipeline", "finetuning", "--to-nodes", "finetuning.finetune", "--params", go_on)
    second = project.newest("06_models/finetuning_checkpoint")
    metadata = json.loads((second / "metadata.json").read_text())
    assert metadata["parent_version"] == json.loads((first / "metadata.json").read_text())["run_id"]
    record = json.loads((project.data / "runs" / second.parent.name / "run.json").read_text())
    assert record["read"]["foundation_checkpoint"] == first.parent.name
    result = project.kedro("run", "--pipeline", "finetuning", "--params",
                           "finetuning.checkpoint=challenge1_checkpoint")  # fmt: skip
    assert result.returncode != 0
    assert "finetuning.checkpoint=challenge1_checkpoint: nothing saved yet" in result.stderr


def test_response_times_are_learned_from_windows_of_trials(project):
    label = (
        "finetuning.label.kind=trial,finetuning.label.column=rt,finetuning.label.type=regression"
    )
    project.run("--pipeline", "finetuning", "--params", label)
    windows = pd.read_parquet(
        project.newest("05_model_input/finetuning_dataset") / "windows.parquet"
    )
    trials = pd.read_parquet(project.newest("03_primary/trials.parquet"))
    assert len(windows) == (trials["excluded"] == "").sum()
    predictions = pd.read_parquet(project.newest("07_model_output/finetuning_predictions.parquet"))
    truth = predictions.merge(trials, on=["recording", "trial"], validate="one_to_one")
    assert (truth["rt"] == truth["value"]).all()
    metrics = json.loads(project.newest("08_reporting/finetuning_metrics.json").read_text())
    assert metrics["n_windows"] == len(truth) > 0
    report = project.newest("08_reporting/finetuning_report.txt").read_text()
    assert "training mean" in report
    assert "majority class" not in report
