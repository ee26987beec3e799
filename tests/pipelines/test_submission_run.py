"""From nothing to a scored submission, as a user runs it, on a small simulated release."""

import json

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.submission.archive import Submission
from kedro_project import SMALL, KedroProject

pytestmark = pytest.mark.slow

CHALLENGES = """
challenge1:
  trainer: {epochs: 2, batch_size: 16, precision: "32"}
  tokens: {time: {width: 16, n_components: 4, n_frequencies: 16, n_whitened: 16}}
challenge2:
  trainer: {epochs: 1, batch_size: 16, precision: "32"}
optimization: {variants: [bf16, onnx], repeats: 5, cold_start: false}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project that has run all pipelines once."""
    more = SMALL.replace("n_subjects: 6", "n_subjects: 12")
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), more + CHALLENGES)
    project.run("--pipeline", "foundation", "--to-nodes", "pretrain_encoder,list_trials")
    for name in ("challenge1", "challenge2"):
        project.run("--pipeline", name)
    (project.root / "log").write_text(project.run("--pipeline", "submission"))
    return project


def test_the_submission_passes_all_checks(project):
    report = json.loads(project.newest("08_reporting/submission_validation.json").read_text())
    assert [check for check in report["checks"] if not check["passed"]] == []
    assert "as the project predicts" in (project.root / "log").read_text()
    files = Submission.load(project.newest("07_model_output/submission.zip")).files
    assert {"submission.py", "models.zip", "models.json"} < set(files)


def test_the_score_is_of_the_predictions_that_the_project_makes(project):
    """Two ways to the same trials: from the store, and from the files as the challenge reads."""
    mine = pd.read_parquet(project.newest("07_model_output/challenge1_predictions.parquet"))
    scored = pd.read_parquet(project.newest("07_model_output/local_predictions1.parquet"))
    both = mine.merge(scored, on=["recording", "trial"], suffixes=("", "_scored"))
    assert len(both) == len(mine) == len(scored)
    assert (both["start"] == both["start_scored"]).all()
    np.testing.assert_array_equal(both["rt"], both["rt_scored"])
    np.testing.assert_allclose(both["predicted_rt"], both["predicted_rt_scored"], atol=2e-3)
    table = pd.read_csv(project.newest("07_model_output/challenge1.csv"))
    np.testing.assert_allclose(
        table.merge(both, on=["recording", "trial"])["predicted_rt_x"], both["predicted_rt"]
    )


def test_only_held_out_subjects_are_scored(project):
    splits = pd.read_csv(project.newest("03_primary/splits.csv"), dtype={"subject": str})
    held_out = set(splits.loc[splits["split"] == "test", "subject"])
    for number in (1, 2):
        scored = pd.read_parquet(
            project.newest(f"07_model_output/local_predictions{number}.parquet")
        )
        assert set(scored["subject"]) <= held_out
    scores = pd.read_csv(project.newest("08_reporting/local_scores.csv"))
    assert {"submission", "mean of the true values"} <= set(scores["method"])


def test_checks_and_score_alone(project):
    project.run("--pipeline", "submission", "--from-nodes", "validate_submission")
    assert len(project.versions("08_reporting/local_scores.csv")) == 2
    assert len(project.versions("07_model_output/submission.zip")) == 1


def test_the_command_scores_the_same(project):
    zip_path = project.newest("07_model_output/submission.zip")
    result = project.kedro("score", below="conf")  # the newest one, on the release of its run
    assert result.returncode == 0, result.stderr
    assert f"Scoring {zip_path} on {project.data / '01_raw' / 'simulated'}" in result.stderr
    everyone = pd.read_csv(project.root / "local_score" / "predictions1.csv")
    scored = pd.read_parquet(project.newest("07_model_output/local_predictions1.parquet"))
    both = scored.merge(everyone, on=["recording", "trial"])
    assert len(both) == len(scored) < len(everyone)
    np.testing.assert_allclose(both["predicted_rt_x"], both["predicted_rt_y"], atol=1e-5)
    assert "Score of the challenge" in result.stdout


def test_a_chosen_variant_is_submitted(project):
    for name, prefix in (("optimization", ""), ("challenge1_optimization", "challenge1_")):
        said = project.run("--pipeline", name)
        assert "Chosen: fp32, no variant's change of the metric has an interval" in said
        table = pd.read_csv(project.newest(f"08_reporting/{prefix}variants_table.csv"))
        assert table["variant"].tolist() == ["fp32", "bf16", "onnx"]
        assert (table.loc[table["variant"] == "bf16", "decides_ms"] > 0).all()
        assert project.newest(f"08_reporting/{prefix}optimization.png").read_bytes()[1:4] == b"PNG"
    project.run("--pipeline", name, "--nodes", "challenge1.choose_variant")
    assert len(project.versions("06_models/challenge1_optimized_checkpoint")) == 2
    chosen = "submission.export.challenge1_entry=optimized_checkpoint"
    said = project.run("--pipeline", "submission", "--params", chosen)
    assert "submission: challenge1.optimized_checkpoint" in said


def test_a_model_that_does_not_fit_is_one_line(project):
    result = project.kedro(
        "run", "--pipeline", "submission", "--params", "submission.export.challenge1=age"
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "not for age" in error
