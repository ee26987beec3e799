"""Both challenges as a user runs them, on a small simulated release."""

import json

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.labels.participants import FACTORS
from kedro_project import SMALL, KedroProject

SHORT = """
    time:
      n_components: 4
      n_frequencies: 8
      n_whitened: 8
      width: 8
  trainer:
    epochs: 2
    batch_size: 8
"""
CHALLENGES = f"""
challenge1:
  tokens:{SHORT}
  evaluation:
    bootstraps: 20
    baselines: [constant, age_sex, time_bins, random_weights]
challenge2:
  tokens:{SHORT}
  evaluation:
    bootstraps: 20
    baselines: [constant, age_sex, band_power]
learning_curve:
  runs:
    shares: [1.0]
    seeds: [0]
    scratch: false
"""
IDENTITY = ["recording", "subject", "task", "run", "start"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    simulated = SMALL.replace("n_subjects: 6", "n_subjects: 13")  # two to validate
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), simulated + CHALLENGES)
    project.run("--pipeline", "foundation", "--to-nodes", "pretrain_encoder,list_trials")
    for name in ("challenge1", "challenge2"):
        scratch = f"challenge.from_scratch.train={name == 'challenge1'}"
        said = project.run("--pipeline", name, "--params", scratch)
        (project.root / f"{name}.log").write_text(said)
    return project


def table(project, folder, name):
    return pd.read_parquet(project.newest(f"{folder}/{name}.parquet"))


def held_out(project):
    splits = pd.read_csv(project.newest("03_primary/splits.csv"), dtype=str)
    return set(splits.loc[splits["split"] == "test", "subject"])


def test_response_times_of_the_test_subjects(project):
    predictions = table(project, "07_model_output", "challenge1_predictions")
    bins = [f"density_{number:02d}" for number in range(40)]
    columns = [*IDENTITY, "trial", "rt", "predicted_rt", "correct", "p_correct", *bins]
    assert predictions.columns.tolist() == columns
    assert set(predictions["subject"]) == held_out(project)
    assert predictions["predicted_rt"].between(0.5, 2.5).all()
    assert predictions["p_correct"].between(0, 1).all()
    np.testing.assert_allclose(predictions[bins].sum(axis=1), 1, rtol=1e-5)
    times = 0.525 + 0.05 * np.arange(40)
    np.testing.assert_allclose(predictions[bins] @ times, predictions["predicted_rt"], rtol=1e-5)
    trials = table(project, "03_primary", "trials").set_index(["recording", "trial"])
    rows = trials.loc[list(zip(predictions["recording"], predictions["trial"], strict=True))]
    np.testing.assert_allclose(rows["rt"], predictions["rt"])
    np.testing.assert_allclose(
        predictions["start"] / 100, rows["stimulus"].to_numpy() + 0.5, atol=0.011
    )


def test_factors_of_the_test_subjects(project):
    predictions = table(project, "07_model_output", "challenge2_predictions")
    assert set(predictions) == {*IDENTITY, *FACTORS, *(f"predicted_{name}" for name in FACTORS)}
    assert set(predictions["subject"]) == held_out(project)
    assert np.isfinite(predictions[[f"predicted_{name}" for name in FACTORS]]).all(axis=None)
    people = table(project, "01_raw", "participants").set_index("subject")
    for name in FACTORS:
        truth = people.loc[predictions["subject"], name].astype(float)
        np.testing.assert_allclose(predictions[name], truth)
    assert set(predictions["task"]) == {"RestingState", "contrastChangeDetection"}
    windows = pd.read_parquet(
        project.newest("05_model_input/challenge2_dataset") / "windows.parquet"
    )
    assert (windows["start"] % 200 == 100).all()  # the middle of windows that begin every 2 s


def test_checkpoints_name_what_they_are_made_from(project):
    foundation = project.newest("06_models/foundation_checkpoint") / "metadata.json"
    begun = json.loads(foundation.read_text())
    targets = {
        "challenge1": ["rt", "success", "stimulus_side", "response_side"],
        "challenge2": ["externalizing", "p_factor", "attention", "internalizing"],
    }
    for name, learned in targets.items():
        text = (project.newest(f"06_models/{name}_checkpoint") / "metadata.json").read_text()
        metadata = json.loads(text)
        assert metadata["parent_version"] == begun["run_id"]
        assert not set(metadata["training_subjects"]) & held_out(project)
        assert [*metadata["targets"]["names"], *metadata["more_targets"]] == learned
        assert metadata["parameters"]["input"]["unit"] == "volts"
        tokens = metadata["parameters"]["encoder"]["tokens"]
        assert tokens == (["band", "time"] if name == "challenge1" else ["band"])
        history = pd.read_csv(project.newest(f"06_models/{name}_history.csv"))
        assert history["epoch"].tolist() == [1, 2]
        assert project.newest(f"06_models/{name}_incidents.jsonl").read_text() == ""
        assert project.newest(f"08_reporting/{name}_lr_preview.png").read_bytes()[1:4] == b"PNG"
    assert "challenge1.predictions" in (project.root / "challenge1.log").read_text()
    assert "Next: kedro run --pipeline challenge2" in (project.root / "challenge1.log").read_text()


def test_both_are_reported_beside_their_baselines(project):
    for name, n_rows in (("challenge1", 2 * (6 + 2)), ("challenge2", 5 * 4)):
        scores = pd.read_csv(project.newest(f"08_reporting/{name}_scores.csv"))
        # of challenge 1 two are no fair methods
        assert len(scores.drop_duplicates(["target", "method"])) == n_rows
        assert {"fine_tuned", "constant", "age_sex"} <= set(scores["method"])
        assert ("scratch" in set(scores["method"])) == (name == "challenge1")
        page = project.newest(f"08_reporting/{name}.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") >= 4
        report = project.newest(f"08_reporting/{name}_report.txt").read_text(encoding="utf-8")
        assert "Criteria" in report
        assert "fine-tuned" in (project.root / f"{name}.log").read_text()
        metrics = json.loads(project.newest(f"08_reporting/{name}_metrics.json").read_text())
        assert metrics["n_subjects"] == len(held_out(project))
        assert metrics["table_problem"] is None
        assert "CSV of the predictions" in report
        assert project.newest(f"08_reporting/{name}_spatial.png").read_bytes()[1:4] == b"PNG"
    subjects = table(project, "07_model_output", "challenge2_subject_predictions")
    assert set(subjects["subject"]) == held_out(project)
    pairs = [column for name in FACTORS for column in (name, f"predicted_{name}")]
    assert list(subjects) == ["subject", *pairs, "n_windows", "age", "sex"]
    page = project.newest("08_reporting/challenge2.html").read_text(encoding="utf-8")
    for title in ("p factor", "Scores of all methods", "Channels that the model", "Course of the"):
        assert title in page


def test_predictions_can_be_made_again_alone(project):
    before = table(project, "07_model_output", "challenge1_predictions")
    versions = project.versions("06_models/challenge1_checkpoint")
    project.run("--pipeline", "challenge1", "--from-nodes", "challenge1.predict")
    assert project.versions("06_models/challenge1_checkpoint") == versions
    pd.testing.assert_frame_equal(
        table(project, "07_model_output", "challenge1_predictions"), before
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["challenge1", "challenge2"])
def test_a_learning_curve_has_its_own_report(project, name):
    project.run("--pipeline", f"{name}_learning_curve")
    curve = project.newest(f"08_reporting/{name}_learning_curve.csv")
    table = pd.read_csv(curve)
    assert {"fine_tuned", "constant", "age_sex"} <= set(table["method"])
    assert project.newest(f"08_reporting/{name}_learning_curve.png").read_bytes()[1:4] == b"PNG"
    assert "training mean" in project.newest(f"08_reporting/{name}_learning_curve.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("challenge1.more_targets.success.weigth=0.1", "weigth"),
        (
            "challenge1.label.kind=task,challenge1.label.column=null,challenge1.label.type=auto",
            "label.kind=task: the windows here are those of trials; take trial",
        ),
        ("challenge2.regularisation.jitter_seconds=1.5", "needs 5 s"),
    ],
)
def test_a_mistake_is_one_line_before_training(project, changes, message):
    name = changes.split(".")[0]
    result = project.kedro("run", "--pipeline", name, "--params", changes)
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr
    assert "epoch 1 of" not in result.stderr


def test_the_release_that_chooses_is_not_reported(project):
    """The official split has a release to validate on, and none to test on but a hidden one."""
    changes = "ingestion.splits.method=release"
    nodes = "split_subjects,cut_windows"
    project.run("--pipeline", "ingestion", "--nodes", nodes, "--params", changes)
    result = project.kedro("run", "--pipeline", "challenge1")
    assert result.returncode != 0
    assert "no test subjects, so the" in result.stderr
    assert "(release R5)" in result.stderr
    assert "epoch 1 of" not in result.stderr
