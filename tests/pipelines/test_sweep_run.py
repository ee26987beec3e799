"""A sweep as a user runs it, on a small simulated release."""

import json
import re
import shutil
from collections import Counter

import pandas as pd
import pytest
from test_runs import SMALL, newest, run

from hbn_foundation.experiments.selection import records
from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec
from kedro_project import KedroProject

SWEEP = """
sweep:
  study:
    participants: 4
    targets: 2
    rules:
      min_per_class: 1
      gap_seconds: 0.0
  grid:
    base:
      encoder: {hidden_dim: 32, n_heads: 2, n_layers: 1}
      trainer: {epochs: 1, batch_size: 16}
    finetune:
      mode: [full_fine_tuning, target_only]
      target_data_pct: [0.5, 1.0]
      plan: {strategy: full}
      trainer: {epochs: 1, batch_size: 4}
  engine:
    engine: inline
"""
EXAMPLE = """
base:
  encoder: {hidden_dim: [32, 64]}
  trainer: {learning_rate: [0.0003, 0.001, 0.003], batch_size: [32, 64]}
finetune:
  plan: {strategy: [full]}
  mode: [full_fine_tuning, target_only_fine_tuning]
  target_data_pct: [0.01, 0.05, 0.125, 0.25, 0.5, 1.0]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project with recordings of seven subjects and a finished sweep."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"))
    small = SMALL.replace("n_subjects: 6", "n_subjects: 7").replace(
        "ccd_runs: 1", "ccd_runs: 2\n      n_truncated: 0"
    )
    (project.root / "conf" / "local" / "parameters.yml").write_text(small + SWEEP)
    (project.root / "grid.yml").write_text(EXAMPLE)
    run(project, "--pipeline", "ingestion")
    result = run(project, "--pipeline", "sweep")
    (project.root / "log").write_text(result.stdout + result.stderr)
    for name in ("base_jobs", "finetune_jobs"):
        shutil.copy(newest(project, f"06_models/{name}.json"), project.root / f"{name}.json")
    return project


def test_the_example_is_planned_without_training(project):
    switches = "sweep.grid.file=grid.yml,sweep.study.participants=7,sweep.study.targets=7"
    said = run(project, "--pipeline", "sweep", "--to-nodes", "plan", "--params", switches)
    text = said.stdout + said.stderr
    assert "84 bases and 1,008 fine-tunings" in text
    assert "each base serves 12 fine-tunings" in text
    assert len(json.loads(newest(project, "06_models/base_jobs.json").read_text())) == 84
    jobs = json.loads(newest(project, "06_models/finetune_jobs.json").read_text())
    assert len(jobs) == 1008


def test_a_plan_that_cannot_run_is_named_before_any_training(project):
    """Three epochs with the head alone leave none of one."""
    wrong = "sweep.grid.finetune.plan.strategy=two_phase"
    result = project.kedro("run", "--pipeline", "sweep", "--params", wrong)
    assert result.returncode == 1
    assert "plan.phase1_epochs=3: nothing would be unfrozen" in result.stderr
    assert "train_bases" not in result.stdout + result.stderr.replace("--from-nodes", "")


def test_every_result_is_there(project):
    table = pd.read_parquet(newest(project, "07_model_output/sweep_jobs.parquet"))
    assert set(table["status"]) == {"done"}
    assert table["kind"].value_counts().to_dict() == {"finetune": 8, "base": 2}
    assert len(pd.read_csv(newest(project, "08_reporting/sweep_curves.csv"))) == 4
    assert newest(project, "08_reporting/sweep_curves.png").read_bytes()[1:4] == b"PNG"
    page = newest(project, "08_reporting/sweep_summary.md").read_text()
    assert "8 fine-tunings: 8 done" in page
    assert json.loads(newest(project, "08_reporting/sweep_savings.json").read_text())["ratio"] < 1


def test_a_second_run_trains_nothing_and_says_the_same(project):
    page = newest(project, "08_reporting/sweep_summary.md").read_text()
    said = run(project, "--pipeline", "sweep", "--params", "sweep.engine.engine=local")
    assert "kept from before: 2 bases, 8 fine-tunings" in said.stdout + said.stderr
    assert newest(project, "08_reporting/sweep_summary.md").read_text() == page


def test_response_times_are_learned_on_the_same_bases(project):
    switches = [
        "finetuning.label.kind=trial", "finetuning.label.column=rt",
        "finetuning.label.type=regression", "sweep.study.targets=1",
        "sweep.study.rules.validation_share=0.5", "sweep.grid.finetune.mode=full_fine_tuning",
    ]  # fmt: skip
    said = run(project, "--pipeline", "sweep", "--params", ",".join(switches))
    assert "kept from before: 1 bases, 0 fine-tunings" in said.stdout + said.stderr
    table = pd.read_parquet(newest(project, "07_model_output/sweep_jobs.parquet"))
    tuned = table[table["kind"] == "finetune"]
    assert tuned["status"].tolist() == ["done"] * 2
    assert tuned["nrmse"].notna().all()
    assert (tuned["n_base"] > 0).all()
    assert "NRMSE by share" in newest(project, "08_reporting/sweep_summary.md").read_text()


def test_a_base_that_fails_blocks_its_own_and_nothing_else(project):
    """Job files made by hand, on workers: one base expects data that is not there."""
    read = {name: json.loads((project.root / f"{name}.json").read_text())
            for name in ("base_jobs", "finetune_jobs")}  # fmt: skip
    bases = [BaseSpec.model_validate(job["spec"]) for job in read["base_jobs"]]
    strange = bases[0].model_copy(update={"data": "0" * 32})
    tunings = []
    for job in read["finetune_jobs"]:
        spec = FinetuneSpec.model_validate({**job["spec"], "seed_finetune": 7})
        if spec.base_hash == bases[0].hash:
            spec = spec.model_copy(update={"base_hash": strange.hash})
        tunings.append(spec)
    for name, specs in (("base_jobs", [strange, bases[1]]), ("finetune_jobs", tunings)):
        (project.root / f"mine_{name}.json").write_text(json.dumps(records(specs)))
    files = ",".join(f"sweep.jobs.{name}=mine_{name}.json" for name in read)
    switches = f"{files},sweep.engine.engine=local,sweep.engine.workers=2"
    result = project.kedro("run", "--pipeline", "sweep", "--params", switches)
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert re.search(rf"failed +{strange.id}: .*hash mismatch .*: data is '0000", said)
    command = re.search(rf'--params "(sweep[^"]*,sweep\.jobs\.only={strange.id})"', said)
    assert command is not None
    assert f"blocked  2 fine-tunings: its base {strange.hash} failed" in said
    report = json.loads(newest(project, "06_models/sweep_finetune_report.json").read_text())
    found = Counter(job["status"] for job in report.values())
    assert found == {"done": 6, "blocked": 2}
    table = pd.read_parquet(newest(project, "07_model_output/sweep_jobs.parquet"))
    assert table["status"].value_counts().to_dict() == {"done": 7, "blocked": 2, "failed": 1}
    for noise in ("Traceback", "Start worker at", "Registered to", "parameters are trained"):
        assert noise not in said
    again = project.kedro("run", "--pipeline", "sweep", "--params", command[1])
    assert re.search(rf"failed +{strange.id}: .*hash mismatch", again.stdout + again.stderr)


def test_one_job_runs_alone_and_a_failure_is_an_exit_status(project):
    root = project.root
    jobs = json.loads((root / "finetune_jobs.json").read_text())
    (base,) = {job["base_hash"] for job in jobs[:1]}
    (folder,) = (root / "data" / "simulated" / "06_models" / "bases").glob(f"??/{base}")
    folder.rename(root / "elsewhere")
    skip = "sweep.jobs.skip_base_training=true,sweep.grid.finetune.seed_finetune=5"
    result = project.kedro("run", "--pipeline", "sweep", "--params", skip)
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert f"base not found: {base}" in said
    assert "Traceback" not in said
    command = re.search(rf'--params "(sweep[^"]*,sweep\.jobs\.only=base-{base})"', said)
    assert command is not None
    assert "skip_base_training" not in command[1]
    run(project, "--pipeline", "sweep", "--params", command[1])
    assert list(
        (root / "data" / "simulated" / "06_models" / "bases").glob(f"??/{base}/digests.json")
    )
