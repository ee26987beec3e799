"""The grid becomes jobs: each base once, each fine-tuning with its base."""

import json

import pytest
import yaml

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.collecting import write_set
from hbn_foundation.experiments.job import note_run, rerun
from hbn_foundation.experiments.params import (
    GridParams,
    JobParams,
    StoreParams,
    StudyParams,
    SweepRecipe,
)
from hbn_foundation.experiments.planner import Data, Plan, make_plan
from hbn_foundation.experiments.selection import records, select
from hbn_foundation.experiments.specs import FULL
from hbn_foundation.experiments.store import Store
from hbn_foundation.experiments.sweep import (
    GUESSED,
    SECONDS_AROUND,
    SECONDS_TO_BEGIN,
    estimate,
    in_words,
    plan_sweep,
    stores_of,
)
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe
from sweep_data import defaults, make_data

#: Seven participants, 3 × 2 × 2 base set-ups, two modes, six shares.
EXAMPLE = {
    "base": {
        "n_base_participants": "all",
        "encoder": {"hidden_dim": [16, 32]},
        "trainer": {"learning_rate": [0.0003, 0.001, 0.003], "batch_size": [16, 32]},
    },
    "finetune": {
        "mode": ["full_fine_tuning", "target_only_fine_tuning"],
        "target_data_pct": [0.01, 0.05, 0.125, 0.25, 0.5, 1.0],
    },
}
SMALL = {
    "base": {"n_base_participants": [2, "all"]},
    "finetune": {"mode": EXAMPLE["finetune"]["mode"], "target_data_pct": [0.5, 1.0]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("planner"), n_channels=4)


def plan(data, grid, study=None, **tuning):
    return make_plan(
        data, StudyParams.model_validate(study or {}), GridParams.model_validate(grid),
        defaults(tuning=tuning),
    )  # fmt: skip


def test_the_time_of_the_example_is_estimated(data, tmp_path):
    found, there = plan(data, EXAMPLE), stores(tmp_path)
    base, tuning = (GUESSED[kind][0] for kind in ("base", "finetune"))
    busy = 84 * base + 1008 * tuning
    assert estimate(found, there, workers=2)[0] == pytest.approx(SECONDS_TO_BEGIN + busy / 2)
    many = estimate(found, there, workers=10_000)[0]
    assert many == pytest.approx(SECONDS_TO_BEGIN + base + tuning)


def stores(folder):
    return stores_of(StoreParams(bases=str(folder / "bases"), results=str(folder / "results")))


def finished(store, folder, spec, seconds):
    """Put an entry of a job that is done into a store."""
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"seconds": seconds}))
    store.publish(spec.hash, folder)


def test_times_are_estimated_from_what_earlier_jobs_took(small, tmp_path):
    there = stores(tmp_path)
    assert "a guess" in in_words(small, there, 1)
    for number, seconds in enumerate((2.0, 3.0, 4.0)):
        finished(there.store("finetune"), tmp_path / "out", small.finetunings[number], seconds)
    finished(there.store("base"), tmp_path / "out", small.bases[0], 9.0)
    found, _, measured = estimate(small, there)
    assert measured == 4
    base, tuning = 9.0 + SECONDS_AROUND, 3.0 + SECONDS_AROUND
    left = base * (len(small.bases) - 1) + tuning * (len(small.finetunings) - 3)
    assert found == pytest.approx(SECONDS_TO_BEGIN + left)
    assert "as 4 earlier jobs took" in in_words(small, there, 1)


def test_planning_again_gives_the_same_jobs(data, small):
    assert records(plan(data, SMALL).finetunings) == records(small.finetunings)


def test_all_a_number_and_the_list_are_the_same_base(data):
    everyone = [f"S{i}" for i in range(1, 8)]
    found = plan(data, {"base": {"n_base_participants": ["all", 6, 6.0, everyone]}})
    assert len(found.bases) == 7


def test_other_subjects_move_no_hash(data, tmp_path):
    study = {"participants": ["S1", "S2", "S3", "S4"]}
    larger = make_data(tmp_path / "larger", n_subjects=9, n_channels=4)
    assert [b.hash for b in plan(data, SMALL, study).bases] == [
        b.hash for b in plan(larger, SMALL, study).bases
    ]


def test_other_signals_move_the_hash(small, tmp_path):
    other = make_data(tmp_path / "other", seconds=42, n_channels=4)
    assert not small.base_of.keys() & plan(other, SMALL).base_of.keys()


def test_the_control_from_scratch_needs_no_base_and_is_planned_once(data):
    grid = {
        "base": EXAMPLE["base"],
        "finetune": {"mode": "target_only", "target_data_pct": [0.5, 1.0]},
    }
    found = plan(data, grid)
    assert len(found.finetunings) == 7 * 2 * 2  # encoders differ, learning rates of bases do not
    assert all(spec.base_hash is None for spec in found.finetunings)


def test_a_list_valued_parameter_is_no_axis(data):
    one = plan(data, {"base": {"encoder": {"tokens": ["band", "time"]}}})
    two = plan(data, {"base": {"encoder.tokens": [["band"], ["band", "time"]]}})
    assert (len(one.bases), len(two.bases)) == (7, 14)
    assert one.bases[0].encoder.tokens == ("band", "time")


def test_supervised_bases(data):
    found = plan(data, {"base": {"kind": ["pretraining", "supervised"], "seed": [0, 1]}})
    assert len(found.bases) == 4 * 7
    supervised = [base for base in found.bases if base.kind == "supervised"]
    assert {base.supervised.trainer.seed for base in supervised} == {0, 1}
    assert {base.supervised.plan.strategy for base in supervised} == {"scratch"}


@pytest.mark.parametrize(
    ("grid", "study", "expected"),
    [
        ({"base": {"lr": [1]}}, {}, r"sweep\.grid\.base\.lr: nothing to vary"),
        ({"base": {"trainer": {"lr": [1]}}}, {}, r"sweep\.grid\.base\.trainer\.lr: no such"),
        ({"base": {"trainer.epochs": [0]}}, {}, r"trainer\.epochs=0"),
        ({"base": {"n_base_participants": [7]}}, {}, "from 2 to 6"),
        ({"base": {"n_base_participants": [["S2"]]}}, {}, "from 2 to 6"),
        ({"base": {"n_base_participants": [["S1", "S9"]]}}, {}, "S9 is none of the subjects"),
        ({"base": {"kind": "both"}}, {}, "kind"),
        ({"finetune": {"mode": ["halfway"]}}, {}, r"sweep\.grid\.finetune\.mode='halfway'"),
        ({"finetune": {"target_data_pct": []}}, {}, "an axis needs a value"),
        ({"finetune": {"label": {"kind": "task"}}}, {}, "label"),
        ({}, {"targets": ["S8"]}, "S8 is none of the subjects, S1"),
        ({}, {"participants": 8}, "participants=8: .* from 1 to 7"),
        ({}, {"rules": {"min_per_class": 99}}, "min_per_class=99.*only"),
        ({}, {"rules": {"validation_share": 0.9, "gap_seconds": 30}}, "target S1"),
        ({"file": "/no/such.yml"}, {}, "cannot be read"),
    ],
)
def test_a_mistake_is_named_before_any_training(data, grid, study, expected):
    with pytest.raises(UserError, match=expected):
        plan(data, grid, study)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"keep_head": True}, "=.* begin from encoders"),
        ({"checkpoint": "finetuning_checkpoint"}, "=.* begin from encoders"),
        ({"context": {"of": "recording"}}, ": a sweep fine-tunes for one label, on single windows"),
        ({"tokens": {"tokens": ["time"]}}, ": a sweep fine-tunes for one label"),
    ],
)
def test_what_a_sweep_would_leave_out_is_refused(data, asked, expected):
    with pytest.raises(UserError, match=rf"^finetuning\.{next(iter(asked))}{expected}"):
        plan_sweep(data, PretrainingRecipe(), FineTuningRecipe(**asked), SweepRecipe(),
                   CleaningParams(), {"chosen": "cpu"})  # fmt: skip


def test_folders_of_an_earlier_plan_go_once_they_are_empty(tmp_path):
    for name in ("fold0_S1", "fold1_S2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "full_fine_tuning-1-0123").symlink_to(tmp_path / "gone")
    (tmp_path / "fold1_S2" / "notes.txt").write_text("of the user")
    write_set(tmp_path, Plan([], []), Store(tmp_path / "results"), {}, "page")
    assert [path.name for path in tmp_path.glob("fold*")] == ["fold1_S2"]
    assert [path.name for path in tmp_path.glob("fold*/*")] == ["notes.txt"]


def test_who_lacks_a_recording_is_no_target(data, caplog):
    windows = data.dataset.windows.query("not (subject == 'S1' and task == 'rest')")
    dataset = data.dataset.replace(windows=windows.reset_index(drop=True))
    lacking = Data(dataset, dataset)
    with caplog.at_level("INFO", logger="hbn_foundation"):
        found = plan(lacking, {}, {"targets": 3})
    assert {spec.target for spec in found.finetunings} == {"S2", "S3", "S4"}
    assert "left out as a target: target S1" in caplog.text
    assert len(plan(lacking, {}).finetunings) == 6
    with pytest.raises(UserError, match=r"targets=7: only 6 .*S1"):
        plan(lacking, {}, {"targets": 7})
    with pytest.raises(UserError, match="target S1: labels: two classes of task"):
        plan(lacking, {}, {"targets": ["S1", "S2"]})


def test_the_grid_may_lie_in_a_file(data, small, tmp_path):
    path = tmp_path / "grid.yml"
    path.write_text(yaml.safe_dump(SMALL))
    assert records(plan(data, {"file": str(path)}).bases) == records(small.bases)
    path.write_text("bases: 1")
    with pytest.raises(UserError, match=r"grid\.yml: bases"):
        plan(data, {"file": str(path)})


@pytest.fixture(scope="module")
def small(data):
    return plan(data, SMALL)


def chosen(found, tmp_path, **params):
    return found, select(found, JobParams.model_validate(params), Store(tmp_path / "bases"))


def test_an_encoder_is_chosen_whoever_has_it(data, tmp_path):
    """That of a base, and that of a job from scratch, which has no base."""
    modes = ["full_fine_tuning", "target_only"]
    found = plan(data, {"base": {"encoder": {"hidden_dim": [16, 32]}}, "finetune": {"mode": modes}})
    _, some = chosen(found, tmp_path, where={"encoder.hidden_dim": 32})
    assert {base.encoder.hidden_dim for base in some.bases} == {32}
    assert len(some.bases) == 7
    by_mode = {mode: [s for s in some.finetunings if s.mode == mode] for mode in modes}
    assert {s.base_hash for s in by_mode[FULL]} == {base.hash for base in some.bases}
    assert {s.encoder.hidden_dim for s in by_mode["target_only"]} == {32}
    assert [len(jobs) for jobs in by_mode.values()] == [7, 7]


def test_a_command_has_what_the_run_was_given():
    assert rerun("base-1a") == 'kedro run --pipeline sweep --params "sweep.jobs.only=base-1a"'
    params = {
        "sweep.grid.file": "grid.yml",
        "sweep.engine.workers": 2,
        "finetuning.evaluation.bootstraps": None,
        "sweep.store.skip_sync": True,
        "sweep.jobs.only": "finetune-2b",
        "sweep.jobs.skip_base_training": True,
    }
    versions = {"windows": "2026-11-25T16.01.04.922Z", "trials": "2026-11-25T16.58.30.374Z"}
    note_run({"env": "eegmat", "params": params, "load_versions": versions})
    command = rerun("base-1a")
    note_run({})
    given = (
        "sweep.grid.file=grid.yml,sweep.engine.workers=2,"
        "finetuning.evaluation.bootstraps=null,sweep.store.skip_sync=true"
    )
    assert command == (
        "kedro run --env eegmat --pipeline sweep --load-versions "
        "windows:2026-11-25T16.01.04.922Z,trials:2026-11-25T16.58.30.374Z "
        f'--params "{given},sweep.jobs.only=base-1a"'
    )
    assert "eegmat" not in rerun("base-1a")
