"""The grid becomes jobs: each base once, each fine-tuning with its base."""

import json

import pytest
import yaml
from sweep_data import defaults, make_data

from hbn_foundation.errors import UserError
from hbn_foundation.sweeps.estimate import (
    SECONDS_AROUND,
    SECONDS_TO_BEGIN,
    Pace,
    estimate,
    in_words,
)
from hbn_foundation.sweeps.jobs import asked, read_jobs, records, rerun, select
from hbn_foundation.sweeps.params import GridParams, JobParams, StudyParams
from hbn_foundation.sweeps.planner import make_plan
from hbn_foundation.sweeps.specs import FULL
from hbn_foundation.sweeps.store import Store

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


def test_the_example_needs_84_bases_for_1008_fine_tunings(data, tmp_path):
    found = plan(data, EXAMPLE)
    assert (len(found.bases), len(found.finetunings)) == (84, 1008)
    assert (found.folds, found.setups) == (7, 12)
    assert len({spec.hash for spec in found.finetunings}) == 1008
    served = [spec.base_hash for spec in found.finetunings]
    assert {served.count(base.hash) for base in found.bases} == {12}
    for spec in found.finetunings:
        assert spec.target not in found.base_of[spec.base_hash].subjects
    stores = Store(tmp_path / "bases"), Store(tmp_path / "results", "finetune")
    guess, cost = estimate(found, data, *stores, workers=2)
    words = "\n".join(in_words(found, guess, *stores, workers=2))
    assert "84 bases and 1,008 fine-tunings" in words
    assert "each base serves 12" in words
    mean = {name: sum(part.values()) / len(part) for name, part in cost._asdict().items()}
    shared, alone = 84 * mean["base"] + 1008 * mean["finetuning"], 1008 * sum(mean.values())
    begin = SECONDS_TO_BEGIN
    assert guess.ratio == pytest.approx(shared / alone, rel=1e-6)
    assert guess.alone_seconds == pytest.approx(begin + alone / 2, rel=1e-6)
    assert guess.seconds == pytest.approx(begin + shared / 2, rel=1e-6)
    many, _ = estimate(found, data, *stores, workers=10_000)
    longest = max(cost.base[s.base_hash] + cost.finetuning[s.hash] for s in found.finetunings)
    assert many.seconds == pytest.approx(begin + longest)


def finished(store, folder, spec, windows, seconds, epochs=2):
    """Put an entry of a job that is done into a store."""
    folder.mkdir()
    counts = {"train": windows, "validation": 9, "test": 9}
    metrics = {"windows": counts, "epochs": epochs, "seconds": seconds}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
    store.publish(spec.hash, folder)


def test_times_are_estimated_from_what_earlier_jobs_took(small, data, tmp_path):
    """Two seconds and a hundredth for each window of each epoch, half of the epochs planned."""
    bases, results = Store(tmp_path / "bases"), Store(tmp_path / "results", "finetune")
    guess, _ = estimate(small, data, bases, results)
    assert "a guess" in "\n".join(in_words(small, guess, bases, results, 1))
    for number, windows in enumerate((20, 200, 1000)):
        spec = small.finetunings[number]
        finished(results, tmp_path / "out", spec, windows, 2 + 0.01 * windows, epochs=1)
        assert spec.tuning.trainer.epochs == 2
    finished(bases, tmp_path / "out", small.bases[0], 400, 9.0, epochs=1)
    found, cost = estimate(small, data, bases, results)
    counts = data.windows["subject"].value_counts()
    for spec in small.finetunings[3:]:
        target = cost.finetuning[spec.hash] - SECONDS_AROUND - 2
        base = small.base_of[spec.base_hash]
        if spec.mode == "full_fine_tuning":
            target -= 0.01 * sum(counts[name] for name in base.train_subjects)
        assert 0 < target < 0.01 * counts[spec.target]
    per_window = (9.0 - 1.0) / 400
    for base in small.bases:
        windows = sum(counts[name] for name in base.train_subjects)
        assert cost.base[base.hash] == pytest.approx(SECONDS_AROUND + 1 + per_window * windows)
    assert found.measured == 4
    left = sum(cost.base[b.hash] for b in small.bases[1:])
    left += sum(cost.finetuning[s.hash] for s in small.finetunings[3:])
    assert found.seconds == pytest.approx(SECONDS_TO_BEGIN + left)
    assert "as 4 earlier jobs took" in "\n".join(in_words(small, found, bases, results, 1))


def test_planning_again_gives_the_same_jobs(data, small):
    assert records(plan(data, SMALL).finetunings) == records(small.finetunings)


def test_all_a_number_and_the_list_are_the_same_base(data):
    everyone = [f"S{i}" for i in range(1, 8)]
    found = plan(data, {"base": {"n_base_participants": ["all", 6, 6.0, everyone]}})
    assert found.setups == 4
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
    assert (one.setups, two.setups) == (1, 2)
    assert one.bases[0].encoder.tokens == ("band", "time")


def test_supervised_bases(data):
    found = plan(data, {"base": {"kind": ["pretraining", "supervised"], "seed": [0, 1]}})
    assert found.setups == 4
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
        ({"base": {"n_base_participants": [["S1", "S9"]]}}, {}, "S9 does not take part"),
        ({"base": {"kind": "both"}}, {}, "kind"),
        ({"finetune": {"mode": ["halfway"]}}, {}, r"sweep\.grid\.finetune\.mode='halfway'"),
        ({"finetune": {"target_data_pct": []}}, {}, "an axis needs a value"),
        ({"finetune": {"label": {"kind": "task"}}}, {}, "label"),
        ({}, {"targets": ["S8"]}, "S8 has no window"),
        ({}, {"participants": 8}, "only 7"),
        ({}, {"rules": {"min_per_class": 99}}, "min_per_class=99.*only"),
        ({}, {"rules": {"validation_share": 0.9, "gap_seconds": 30}}, "target S1"),
        ({"file": "/no/such.yml"}, {}, "cannot be read"),
    ],
)
def test_a_mistake_is_named_before_any_training(data, grid, study, expected):
    with pytest.raises(UserError, match=expected):
        plan(data, grid, study)


def test_who_lacks_a_recording_is_no_target(data, caplog):
    windows = data.windows[~((data.windows["subject"] == "S1") & (data.windows["task"] == "rest"))]
    lacking = data._replace(windows=windows.reset_index(drop=True))
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


def test_jobs_are_chosen_by_any_field(small, tmp_path):
    where = {"target": ["S1", "S2"], "mode": "full_fine_tuning", "target_data_pct": 0.5}
    _, some = chosen(small, tmp_path, where=where)
    assert {(s.target, s.mode, s.target_data_pct) for s in some.finetunings} == {
        ("S1", "full_fine_tuning", 0.5), ("S2", "full_fine_tuning", 0.5)
    }  # fmt: skip
    assert {base.hash for base in some.bases} == {spec.base_hash for spec in some.finetunings}
    with pytest.raises(UserError, match=r"sweep\.jobs\.where\.modus"):
        chosen(small, tmp_path, where={"modus": 1})
    with pytest.raises(UserError, match="no job has these values"):
        chosen(small, tmp_path, where={"target": "S77"})


def test_a_field_of_bases_and_fine_tunings_is_chosen_by_whose_it_is(data, tmp_path):
    found = plan(data, {**SMALL, "base": {"trainer.batch_size": [32, 64]}})
    _, some = chosen(found, tmp_path, where={"base.trainer.batch_size": 64})
    assert {base.trainer.batch_size for base in some.bases} == {64}
    assert len(some.bases) == len(found.bases) / 2
    assert {spec.base_hash for spec in some.finetunings} == {base.hash for base in some.bases}
    _, none = chosen(found, tmp_path, where={"finetune.trainer.batch_size": 8})
    assert len(none.finetunings) == len(found.finetunings)
    with pytest.raises(UserError, match=r"expected base\.trainer\.batch_size or finetune\.trainer"):
        chosen(found, tmp_path, where={"trainer.batch_size": 64})
    _, bases = chosen(found, tmp_path, where={"base.trainer.batch_size": [64]}, only_bases=True)
    assert [base.hash for base in bases.bases] == [base.hash for base in some.bases]


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
    with asked({"env": "eegmat", "params": params, "load_versions": versions}):
        command = rerun("base-1a")
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


def test_time_is_estimated_from_the_windows_that_are_trained_on(data, tmp_path):
    """A fourth of the windows is that of the trials."""
    stores = Store(tmp_path / "bases"), Store(tmp_path / "results", "finetune")
    grid = {"base": {"kind": ["pretraining", "supervised"]}, "finetune": {"mode": FULL}}
    trials = data._replace(label_windows=data.windows.iloc[::4].reset_index(drop=True))
    found = plan(data, grid)
    _, cost = estimate(found, data, *stores)
    _, of_trials = estimate(found, trials, *stores)
    start = Pace().seconds(0, 1)
    for base in found.bases:
        share = (of_trials.base[base.hash] - start) / (cost.base[base.hash] - start)
        assert share == pytest.approx(1.0 if base.kind == "pretraining" else 0.25, abs=0.02)
    for key, seconds in cost.finetuning.items():
        assert (of_trials.finetuning[key] - start) / (seconds - start) == pytest.approx(
            0.25, abs=0.02
        )


def test_one_job_is_chosen_by_its_name(small, tmp_path):
    found = small
    spec = found.finetunings[5]
    _, one = chosen(small, tmp_path, only=spec.id[:16])
    assert [s.hash for s in one.finetunings] == [spec.hash]
    assert [b.hash for b in one.bases] == [spec.base_hash]
    _, base = chosen(small, tmp_path, only=found.bases[1].id)
    assert [b.hash for b in base.bases] == [found.bases[1].hash]
    assert base.finetunings == []
    with pytest.raises(UserError, match="expected base-<hash>"):
        chosen(small, tmp_path, only=spec.hash)
    with pytest.raises(UserError, match="no such job"):
        chosen(small, tmp_path, only="base-zz")


def test_jobs_come_from_files_and_are_checked(small, tmp_path):
    found = small
    paths = {"base_jobs": tmp_path / "b.json", "finetune_jobs": tmp_path / "f.json"}
    paths["base_jobs"].write_text(json.dumps(records(found.bases[:1]) * 2))
    mine = [s for s in found.finetunings if s.base_hash == found.bases[0].hash]
    paths["finetune_jobs"].write_text(json.dumps(records(mine)))
    texts = {name: str(path) for name, path in paths.items()}
    _, some = chosen(small, tmp_path, **texts)
    assert (len(some.bases), len(some.finetunings)) == (1, len(mine))
    _, bases = chosen(small, tmp_path, **texts, only_bases=True)
    assert bases.finetunings == []
    orphans = [s for s in found.finetunings if s.base_hash != found.bases[0].hash]
    paths["finetune_jobs"].write_text(json.dumps(records(orphans)))
    with pytest.raises(UserError, match=r"base not found.*kedro run .*only=base-"):
        chosen(small, tmp_path, **texts)
    rows = records(found.bases)
    rows[0]["spec"]["trainer"]["epochs"] = 9
    paths["base_jobs"].write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"b\.json: job 0: the hash is"):
        read_jobs(texts["base_jobs"], "base", "sweep.jobs.base_jobs")
    paths["base_jobs"].write_text("{}")
    with pytest.raises(UserError, match="expected a list"):
        chosen(small, tmp_path, **texts)
