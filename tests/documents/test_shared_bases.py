"""Shared base models, item by item, in the order of the document.

One command plans the jobs, trains each base once, brings bases to the workers and fine-tunes; each
step is also a command or a parameter of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter

import pandas as pd
import pytest
from click.testing import CliRunner

from hbn_foundation.cli import cli
from hbn_foundation.experiments.selection import records
from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec
from hbn_foundation.experiments.store import Store
from kedro_project import SMALL, KedroProject
from sweep_data import a_base, a_finetuning

SWEEP = """
sweep:
  prefix: pilot
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
    small = SMALL.replace("n_subjects: 6", "n_subjects: 7").replace(
        "ccd_runs: 1", "ccd_runs: 2\n      n_truncated: 0"
    )
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), small + SWEEP)
    (project.root / "grid.yml").write_text(EXAMPLE)
    assert project.kedro("run", "--pipeline", "ingestion").returncode == 0
    sweep(project)
    for name in ("base_jobs", "finetune_jobs"):
        shutil.copy(project.newest(f"06_models/{name}.json"), project.root / f"{name}.json")
    return project


def sweep(project, *switches, to="", fails=False):
    """Run a sweep; give what it has said."""
    params = ["--params", ",".join(switches)] if switches else []
    nodes = ["--to-nodes", to] if to else []
    result = project.kedro("run", "--pipeline", "sweep", *nodes, *params)
    said = result.stdout + result.stderr
    assert (result.returncode != 0) == fails, said[-3000:]
    assert "Traceback" not in said
    return said


def jobs_of(project):
    return pd.read_parquet(project.newest("07_model_output/sweep_jobs.parquet"))


def experiment(project, prefix):
    return project.data / "07_model_output" / "experiments" / prefix


# Efficiency gains


def test_1008_fine_tunings_need_84_bases(project):
    """Total experiments 1,008, unique bases 84, each reused by 12 fine-tunings."""
    said = sweep(project, "sweep.grid.file=grid.yml", "sweep.study.participants=7",
                 "sweep.study.targets=7", to="plan")  # fmt: skip
    assert "84 bases and 1,008 fine-tunings of 7 folds" in said
    assert "each base serves 12 fine-tunings" in said
    bases, tunings = (json.loads(project.newest(f"06_models/{name}.json").read_text())
                      for name in ("base_jobs", "finetune_jobs"))  # fmt: skip
    assert len(bases) == 84
    served = {}
    for job in tunings:
        spec = job["spec"]
        served.setdefault(job["base_hash"], set()).add((spec["mode"], spec["target_data_pct"]))
    assert {job["hash"] for job in bases} == served.keys()
    assert {len(differing) for differing in served.values()} == {12}


# Phase 1: base model training


def test_a_base_never_sees_its_target(project):
    """Trains base models on base participants only, excluding the target."""
    bases = {job["hash"]: job["spec"] for job in json.loads(
        (project.root / "base_jobs.json").read_text())}  # fmt: skip
    for job in json.loads((project.root / "finetune_jobs.json").read_text()):
        if job["base_hash"] is not None:
            spec = bases[job["base_hash"]]
            subjects = {*spec["train_subjects"], *spec["validation_subjects"]}
            assert len(subjects) == 3
            assert job["spec"]["target"] not in subjects


@pytest.mark.parametrize(
    "changes",
    [
        {"train_subjects": ["S2"]},
        {"validation_subjects": ["S5"]},
        {"train_subjects": ["S2", "S4"], "validation_subjects": ["S3"]},
        {"kind": "supervised", "supervised": {}},
        {"encoder": {"hidden_dim": 128}},
        {"objective": {"name": "masked", }, "encoder": {"tokens": ["band", "time"]}},
        {"data": "f" * 32},
        {"window": {"seconds": 4.0}},
        {"cleaning": {"l_freq": 0.6}},
        {"trainer": {"batch_size": 17}},
        {"trainer": {"learning_rate": 2e-3}},
        {"trainer": {"early_stopping_patience": 6}},
        {"trainer": {"seed": 1}},
        {"objective": {"noise": 0.2}},
        {"objective": {"gain": 0.2}},
        {"objective": {"gain_probability": 0.5}},
        {"objective": {"use_augmentation": False}},
    ],
)  # fmt: skip
def test_what_the_hash_includes(changes):
    """Fold, base participants, architecture, data, window, training, augmentation."""
    assert a_base(**changes).hash != a_base().hash


@pytest.mark.parametrize(
    ("same", "changes"),
    [
        (True, {"fold": 3}),
        (True, {"prefix": "pilot"}),  # of job files of before
        (True, {"tuning": {"trainer": {"work_dir": "there", "seed": 5}}}),
        (False, {"seed_finetune": 5}),
        (False, {"target_data_pct": 0.5}),
        (False, {"mode": "target_only_fine_tuning"}),
        (False, {"target_share": 0.25}),
        (False, {"target": "S9"}),
        (False, {"rules": {"min_per_class": 9}}),
        (False, {"tuning": {"trainer": {"early_stopping_patience": 9}}}),
        (False, {"tuning": {"regularisation": {"noise_probability": 0.5}}}),
        (False, {"tuning": {"label": {"kind": "task", "positive": ["rest"]}}}),
    ],
)
def test_what_the_hash_excludes(same, changes):
    """Mode, share, patience of the fine-tuning are of that alone; the prefix is of neither."""
    spec = a_finetuning(**changes)
    assert spec.base_hash == a_base().hash
    assert (spec.hash == a_finetuning().hash) == same


def test_an_entry_of_a_base_has_weights_configuration_and_metrics(project):
    """base_models/{hash}.pt and {hash}_metadata.json."""
    store = Store(project.data / "06_models" / "bases")
    for key in store.hashes():
        folder = store.path(key)
        assert (folder / "checkpoint" / "weights.safetensors").is_file()
        assert BaseSpec.model_validate(store.spec(key)).hash == key
        assert json.loads((folder / "metrics.json").read_text())["validation_loss"] > 0


# Phase 2: fine-tuning


def test_results_lie_by_prefix_fold_and_target(project):
    """experiments/{prefix}/fold{fold}_{target}/ with metrics, losses, and the tables of all."""
    folder = experiment(project, "pilot")
    folds = sorted(path.name for path in folder.glob("fold*"))
    assert [name.partition("_")[0] for name in folds] == ["fold0", "fold1"]
    table = jobs_of(project)
    assert set(table["status"]) == {"done"}
    assert table["kind"].value_counts().to_dict() == {"finetune": 8, "base": 2}
    for row in table[table["kind"] == "finetune"].itertuples():
        (found,) = (folder / f"fold{row.fold:.0f}_{row.target}").glob(f"{row.mode}-*-{row.hash}")
        metrics = json.loads((found / "metrics.json").read_text())
        assert metrics["test"]["window_auroc"] == pytest.approx(row.window_auroc)
        assert len(pd.read_csv(found / "history.csv")) == metrics["epochs"]
    assert len(pd.read_csv(folder / "jobs.csv")) == 10
    assert len(pd.read_csv(folder / "curves.csv")) == 4
    page = project.newest("08_reporting/sweep_summary.md").read_text()
    assert (folder / "summary.md").read_text() == page
    assert "8 fine-tunings: 8 done" in page
    assert project.newest("08_reporting/sweep_curves.png").read_bytes()[1:4] == b"PNG"


# Usage: complete and manual workflow


def test_two_prefixes_share_all_that_is_the_same(project):
    """A second set of results, without training again: --skip-base-training, cached bases."""
    said = sweep(project, "sweep.prefix=again", "sweep.jobs.skip_base_training=true")
    assert "kept from before: 2 bases, 8 fine-tunings" in said
    entries = [
        {link.name: link.resolve() for link in experiment(project, prefix).glob("fold*/*")}
        for prefix in ("pilot", "again")
    ]
    assert len(entries[0]) == 8
    assert entries[0] == entries[1]
    first, second = (
        (experiment(project, p) / "summary.md").read_text() for p in ("pilot", "again")
    )
    assert first.replace("(pilot)", "(again)") == second


def test_a_plan_that_cannot_run_is_named_before_any_training(project):
    """Three epochs with the head alone leave none of one."""
    said = sweep(project, "sweep.grid.finetune.plan.strategy=two_phase", fails=True)
    assert "plan.phase1_epochs=3: nothing would be unfrozen" in said
    assert "train_bases" not in said.replace("--from-nodes", "")


def test_bases_are_trained_sent_and_fetched_step_by_step(project, tmp_path):
    """Manual workflow: generate, train bases, sync, fine-tune; a single base by its fields."""
    said = sweep(
        project, "sweep.jobs.only_bases=true", "sweep.jobs.where.fold=0",
        "foundation.objective.use_augmentation=false", to="train_bases",
    )  # fmt: skip
    assert "plan: 1 base and 0 fine-tunings" in said
    bases = project.data / "06_models" / "bases"
    (key,) = (path.parent.name for path in bases.glob("??/*/spec.json")
              if not json.loads(path.read_text())["objective"]["use_augmentation"])  # fmt: skip
    url = (tmp_path / "shared").as_uri()
    assert "3 sent" in bases_command(bases, "push", "--url", url)
    assert "0 sent" in bases_command(bases, "push", "--url", url, key[:8])
    elsewhere = tmp_path / "node" / "bases"
    assert "1 fetched" in bases_command(elsewhere, "pull", "--url", url, key[:8])
    assert Store(elsewhere).hashes() == [key]
    assert "2 fetched" in bases_command(elsewhere, "pull", "--url", url)
    assert "there is none" in bases_command(elsewhere, "pull", "--url", url, "zz", fails=True)


def bases_command(folder, *arguments, fails=False):
    result = CliRunner().invoke(cli, ["bases", "--folder", str(folder), *arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


# Local testing


def test_one_fine_tuning_by_its_fields_and_its_weights_later(project):
    """A single fine-tuning, without a hash; best_model.pt of a result that has none yet."""
    said = sweep(
        project, "sweep.prefix=one", "sweep.store.keep_weights=true", "sweep.jobs.where.fold=0",
        "sweep.jobs.where.mode=full_fine_tuning", "sweep.jobs.where.target_data_pct=0.5",
    )  # fmt: skip
    assert "plan: 1 base and 1 fine-tuning" in said
    assert "made again for their weights: 1 fine-tuning" in said
    (result,) = experiment(project, "one").glob("fold0_*/full_fine_tuning-0.5-*")
    assert (result / "checkpoint" / "weights.safetensors").is_file()
    (same,) = experiment(project, "pilot").glob(f"fold0_*/{result.name}")
    assert same.resolve() == result.resolve()  # it is one result
    assert json.loads((result / "metrics.json").read_text())["test"]["window_auroc"] >= 0


# Troubleshooting


def test_a_base_that_is_missing_is_named_with_the_command_that_trains_it(project):
    """Base model not found."""
    jobs = json.loads((project.root / "finetune_jobs.json").read_text())
    (base,) = {job["base_hash"] for job in jobs[:1]}
    (folder,) = (project.data / "06_models" / "bases").glob(f"??/{base}")
    folder.rename(project.root / "elsewhere")
    skip = "sweep.jobs.skip_base_training=true,sweep.grid.finetune.seed_finetune=5"
    said = sweep(project, skip, fails=True)
    assert f"base not found: {base}" in said
    command = re.search(rf'--params "(sweep[^"]*,sweep\.jobs\.only=base-{base})"', said)
    assert command is not None
    assert "skip_base_training" not in command[1]
    sweep(project, command[1])
    assert list((project.data / "06_models" / "bases").glob(f"??/{base}/digests.json"))


def test_a_base_that_fails_blocks_its_own_and_nothing_else(project):
    """Hash mismatch, on workers: a base of a job file expects data that is not there."""
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
    said = sweep(project, files, "sweep.engine.engine=local", "sweep.engine.workers=1", fails=True)
    assert re.search(rf"failed +{strange.id}: .*hash mismatch .*: data is '0000", said)
    assert re.search(rf'--params "(sweep[^"]*,sweep\.jobs\.only={strange.id})"', said)
    assert f"blocked  2 fine-tunings: its base {strange.hash} failed" in said
    report = json.loads(project.newest("06_models/sweep_finetune_report.json").read_text())
    assert Counter(job["status"] for job in report.values()) == {"done": 6, "blocked": 2}
    table = jobs_of(project)
    assert table["status"].value_counts().to_dict() == {"done": 7, "blocked": 2, "failed": 1}
    for noise in ("Start worker at", "Registered to", "parameters are trained"):
        assert noise not in said


# Benefits


def test_more_fine_tunings_are_added_without_training_bases_again(project):
    """Flexibility, time efficiency: response times are learned on the bases that are there."""
    switches = [
        "finetuning.label.kind=trial", "finetuning.label.column=rt",
        "finetuning.label.type=regression", "sweep.study.targets=1", "sweep.prefix=times",
        "sweep.study.rules.validation_share=0.5", "sweep.grid.finetune.mode=full_fine_tuning",
    ]  # fmt: skip
    said = sweep(project, *switches)
    assert "kept from before: 1 base, 0 fine-tunings" in said
    tuned = jobs_of(project).query("kind == 'finetune'")
    assert tuned["status"].tolist() == ["done"] * 2
    assert tuned["nrmse"].notna().all()
    assert (tuned["n_base"] > 0).all()
    page = project.newest("08_reporting/sweep_summary.md").read_text()
    assert "NRMSE by share" in page
    assert json.loads(project.newest("08_reporting/sweep_savings.json").read_text())["ratio"] < 1
