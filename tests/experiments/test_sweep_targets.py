"""Real bases and fine-tunings, small: what an entry holds, and what a job refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from job_stand_in import LIMITS, run

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.params import GridParams, StudyParams
from hbn_foundation.experiments.planner import make_plan
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import job_of, load_base
from hbn_foundation.experiments.worker import Context, run_job
from sweep_data import defaults, make_data

pytestmark = pytest.mark.usefixtures("forked_trainings")

GRID = {
    "base": {"kind": ["pretraining", "supervised"]},
    "finetune": {
        "mode": ["full_fine_tuning", "target_only_fine_tuning", "target_only"],
        "target_data_pct": 0.5,
        "trainer": {"epochs": 1, "batch_size": 4},
    },
}


def context_in(folder):
    folders = {"base": folder / "bases", "finetune": folder / "results"}
    return Context(Stores(folders, folder / "work"), limits=LIMITS)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A plan of one fold, where its results go, and what makes jobs of specs."""
    folder = tmp_path_factory.mktemp("sweep")
    data = make_data(folder / "store", n_subjects=4)
    given = defaults()
    plan = make_plan(data, StudyParams(targets=["S1"]), GridParams.model_validate(GRID), given)
    there = put_dataset(data.dataset, folder / "work")
    return plan, context_in(folder), lambda spec: job_of(spec, there)


@pytest.fixture(scope="module")
def swept(ready):
    plan, context, job = ready
    return run([job(spec) for spec in (*plan.bases, *plan.finetunings)], context)


def test_all_modes_and_both_kinds_of_base(swept, ready):
    plan, context, _ = ready
    assert swept.failed == []
    assert (len(plan.bases), len(plan.finetunings)) == (2, 5)
    for base in plan.bases:
        folder = context.stores.get("base", base.hash)
        assert {path.name for path in folder.iterdir()} == {
            "checkpoint", "digests.json", "environment.json", "history.csv", "metrics.json",
            "spec.json",
        }  # fmt: skip
        assert (folder / "checkpoint" / "weights.safetensors").is_file()
        metadata = json.loads((folder / "checkpoint" / "metadata.json").read_text())
        assert metadata["training_subjects"] == sorted(base.train_subjects)
        assert "S1" not in metadata["training_subjects"]
    tables = {}
    for spec in plan.finetunings:
        folder = context.stores.get("finetune", spec.hash)
        metrics = json.loads((folder / "metrics.json").read_text())
        table = pd.read_parquet(folder / "predictions.parquet")
        assert metrics["windows"]["test"] == len(table) > 0
        assert (metrics["windows"]["base"] > 0) == (spec.mode == "full_fine_tuning")
        assert set(metrics["test"]) == {"window_auroc", "balanced_accuracy", "f1"}
        assert set(np.unique(table["value"])) == {0, 1}
        np.testing.assert_allclose(np.exp(table[["log_p_0", "log_p_1"]]).sum(1), 1, atol=1e-4)
        assert set(table["recording"]) == {"sub-S1_task-count_run-2", "sub-S1_task-rest_run-1"}
        tables[spec.mode, spec.base_hash] = table
    first, *others = tables.values()
    for other in others:  # all modes are tested on the same windows
        pd.testing.assert_frame_equal(first[["recording", "start", "value"]],
                                      other[["recording", "start", "value"]])  # fmt: skip


def test_a_base_that_knows_the_target_is_refused(ready, swept):
    plan, context, _ = ready
    entry = context.stores.get("base", plan.bases[0].hash)
    spec = next(s for s in plan.finetunings if s.base_hash == plan.bases[0].hash)
    seen = spec.model_copy(update={"target": plan.bases[0].train_subjects[0]})
    with pytest.raises(UserError, match="has seen the target"):
        load_base(entry, seen)
    other = spec.model_copy(update={"base_hash": plan.bases[1].hash})
    with pytest.raises(UserError, match="the hash is"):
        load_base(entry, other)


def test_a_training_that_its_time_limit_ends_is_not_published(ready):
    plan, context, job = ready
    trainer = {**plan.bases[0].trainer.model_dump(), "max_training_time": 0.001, "seed": 9}
    short = plan.bases[0].model_copy(update={"trainer": trainer})
    outcome = run_job(job(short), context)
    assert outcome.status == "failed"
    assert "time limit" in outcome.what
    assert not context.stores.store("base").has(short.hash)
