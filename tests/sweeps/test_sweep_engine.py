"""What becomes of jobs that end, die, hang or fail, one after another in the foreground."""

import functools
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from sweep_stand_in import log, make_context, make_plan, order, run

from hbn_foundation.errors import UserError
from hbn_foundation.sweeps import running
from hbn_foundation.sweeps.engine import Sweep, counts, failure_table
from hbn_foundation.sweeps.executors import count_workers, make_executor, read_cluster
from hbn_foundation.sweeps.params import EngineParams
from hbn_foundation.sweeps.running import Place


@pytest.fixture(autouse=True)
def servers_outlive_a_sweep(monkeypatch):
    """One fork server for all tests of this file."""
    monkeypatch.setattr("hbn_foundation.sweeps.executors.close_servers", lambda: None)


def statuses(sweep):
    return {name: outcome.status for name, outcome in sweep.outcomes.items()}


def test_each_base_is_trained_once_and_a_second_run_trains_nothing(tmp_path):
    plan, context = make_plan(2, 3), make_context(tmp_path)
    sweep = run(plan, context)
    assert set(statuses(sweep).values()) == {"done"}
    assert len(sweep.outcomes) == 8
    assert sweep.failures() == []
    lines = log(tmp_path)
    assert len(lines) == len(set(lines)) == 16
    for spec in plan.finetunings:  # not before its own base, but before the other one
        assert lines.index(f"end base-{spec.base_hash}") < lines.index(f"start {spec.id}")
    assert lines.index(f"end {plan.finetunings[0].id}") < lines.index(f"start {plan.bases[1].id}")
    again = run(plan, context)
    assert set(statuses(again).values()) == {"kept"}
    assert again._executor is None
    assert log(tmp_path) == lines
    assert not list((tmp_path / "work").glob("base-*"))


@pytest.mark.parametrize(("fault", "starts"), [("kill*1", 2), ("hang*1", 2), ("kill*2", 3)])
def test_a_job_that_dies_or_hangs_is_tried_again(tmp_path, fault, starts):
    plan = make_plan(1, 1)
    order(tmp_path, **{plan.bases[0].id: fault})
    sweep = run(plan, make_context(tmp_path))
    assert sweep.failures() == []
    assert log(tmp_path).count(f"start {plan.bases[0].id}") == starts


@pytest.mark.parametrize(
    ("fault", "starts", "what"),
    [("error", 1, "an error was ordered"), ("kill", 3, "given up after 2 restarts")],
)
def test_what_always_fails_blocks_its_own_and_nobody_else(tmp_path, fault, starts, what):
    plan = make_plan(2, 2)
    bad = plan.bases[0]
    order(tmp_path, **{bad.id: fault})
    sweep = run(plan, make_context(tmp_path))
    found = statuses(sweep)
    assert found.pop(bad.id) == "failed"
    assert log(tmp_path).count(f"start {bad.id}") == starts  # an error is not tried again
    for spec in plan.finetunings:
        assert found.pop(spec.id) == ("blocked" if spec.base_hash == bad.hash else "done")
    assert found == {plan.bases[1].id: "done"}
    table = failure_table(sweep.failures())
    assert what in table
    assert f'kedro run --pipeline sweep --params "sweep.jobs.only={bad.id}"' in table
    assert f"blocked  2 fine-tunings: its base {bad.hash} failed" in table
    assert counts(sweep.outcomes.values()) == "3 done, 1 failed, 2 blocked"
    order(tmp_path)
    assert (
        sorted(statuses(run(plan, make_context(tmp_path))).values()) == ["done"] * 3 + ["kept"] * 3
    )


def test_a_result_that_is_there_is_not_blocked_by_its_base(tmp_path):
    plan, context = make_plan(1, 2), make_context(tmp_path)
    run(plan._replace(finetunings=plan.finetunings[:1]), context)
    bases = Place.of(context.stores).stores["base"]
    bases.quarantine(plan.bases[0].hash, "a test")
    sweep = run(plan, context, skip_base_training=True)
    found = statuses(sweep)
    assert [found[spec.id] for spec in plan.finetunings] == ["kept", "blocked"]
    assert [row["job"] for row in sweep.failures()] == [plan.bases[0].id, plan.finetunings[1].id]


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_damaged_base_is_put_aside_and_trained_again(tmp_path, moment, monkeypatch):
    plan, context = make_plan(1, 2), make_context(tmp_path)
    bases = Place.of(context.stores).stores["base"]

    def damage():
        (bases.path(plan.bases[0].hash) / "weights").write_text("something else")

    if moment == "before":
        run(plan._replace(finetunings=[]), context)
        damage()
    else:
        note = Sweep._note

        def then_damage(sweep, job, outcome):
            note(sweep, job, outcome)
            if job is plan.bases[0] and not list(bases.root.glob("quarantine/*")):
                damage()

        monkeypatch.setattr(Sweep, "_note", then_damage)
    sweep = run(plan, context)
    assert sweep.failures() == []
    assert len(list((bases.root / "quarantine").iterdir())) == 1
    assert log(tmp_path).count(f"end {plan.bases[0].id}") == 2
    assert bases.damage(plan.bases[0].hash) is None


def test_bases_that_are_not_there_are_named_when_none_is_to_be_trained(tmp_path):
    plan = make_plan(2, 1)
    run(plan._replace(bases=plan.bases[:1], finetunings=[]), make_context(tmp_path))
    sweep = run(plan, make_context(tmp_path), skip_base_training=True)
    found = statuses(sweep)
    assert found[plan.finetunings[0].id] == "done"
    assert found[plan.finetunings[1].id] == "blocked"
    assert f"base not found: {plan.bases[1].hash}" in failure_table(sweep.failures())


def test_a_job_that_somebody_else_has_is_waited_for(tmp_path):
    plan, context = make_plan(1, 1), make_context(tmp_path)
    theirs = Place.of(context.stores).stores["base"].lease(plan.bases[0].hash)
    assert running.run_job(plan.bases[0], context).status == "held"
    threading.Timer(1.5, theirs.release).start()
    started = time.monotonic()
    assert run(plan, context).failures() == []
    assert time.monotonic() - started > 1.0


def test_what_was_trained_and_could_not_be_published_is_not_trained_again(tmp_path, monkeypatch):
    plan, context = make_plan(1, 0), make_context(tmp_path)
    base = plan.bases[0]

    def full(store, key, folder):
        raise UserError(f"{folder}: disk full")

    monkeypatch.setattr("hbn_foundation.sweeps.store.Store.publish", full)
    assert statuses(run(plan, context)) == {base.id: "failed"}
    monkeypatch.undo()
    monkeypatch.setattr("hbn_foundation.sweeps.executors.close_servers", lambda: None)
    assert statuses(run(plan, context)) == {base.id: "done"}
    assert log(tmp_path).count(f"start {base.id}") == 1


def test_waiting_for_a_job_of_others_costs_nothing(tmp_path):
    executor = make_executor(EngineParams(engine="inline"), make_context(tmp_path))
    started, worked = time.monotonic(), time.process_time()
    assert executor.next(0.3) is None
    assert time.monotonic() - started >= 0.3
    assert time.process_time() - worked < 0.1


def test_threads_are_pinned_and_the_environment_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    context = make_context(tmp_path, job_start="fresh", threads=2)

    with running.start_of_children(context, ""):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    plan = make_plan(1, 0)
    assert run(plan, context).failures() == []


def test_each_worker_of_a_machine_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    code = "\n".join(
        ["import sys, tempfile", f"tempfile.gettempdir = lambda: {str(tmp_path)!r}",
         "from hbn_foundation.sweeps.running import own_gpu",
         "print(own_gpu(2), own_gpu(2), flush=True)", "sys.stdin.read()"]
    )  # fmt: skip
    start = functools.partial(
        subprocess.Popen, [sys.executable, "-c", code], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    workers = [start(), start()]
    said = [worker.stdout.readline().split() for worker in workers]
    assert sorted(said) == [["0", "0"], ["1", "1"]]
    workers[said.index(["1", "1"])].kill()
    workers[said.index(["1", "1"])].wait()
    workers.append(start())  # takes the place of the one that died
    assert workers[2].stdout.readline().split() == ["1", "1"]
    named = start(env={**os.environ, "CUDA_VISIBLE_DEVICES": "6,7"})
    assert named.stdout.readline().split() == ["6", "6"]
    for worker in (*workers, named):
        worker.communicate()


def test_start_up_takes_less_than_a_second(tmp_path):
    plan, context = make_plan(1, 6), make_context(tmp_path)
    seconds = sorted(outcome.seconds for outcome in run(plan, context).outcomes.values())
    assert seconds[len(seconds) // 2] < 1.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("engine: ssh\n", r"cluster\.yml: engine: ssh needs ssh\.hosts"),
        ("engine: ssh\nssh: {hosts: [a]}\n", r"cluster\.yml: ssh\.hosts"),
        ("engine: sgh\n", r"cluster\.yml: engine='sgh'"),
        ("engine: ssh\nssh: {hosts: [a, b], prot: 1}\n", r"ssh\.prot.*no such parameter"),
        ("- a\n", "expected a mapping, found list"),
        ("engine: [\n", "no valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_cluster_file_is_named(tmp_path, content, expected):
    path = tmp_path / "cluster.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected):
        read_cluster(EngineParams(cluster_file=str(path)))


def test_a_cluster_file_is_read(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"engine": "ssh", "ssh": {"hosts": ["a", "b", "c"]}}))
    params = read_cluster(EngineParams(cluster_file=str(path), retries=5))
    assert (params.engine, params.retries, count_workers(params, "cpu")) == ("ssh", 5, 2)


@pytest.mark.parametrize("engine", ["ssh", "slurm"])
def test_a_library_that_is_missing_is_named(tmp_path, engine, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ssh = {"hosts": ["a", "b"]} if engine == "ssh" else None
    with pytest.raises(UserError, match=r"not installed; pip install .*\[cluster\]"):
        make_executor(EngineParams(engine=engine, ssh=ssh), make_context(tmp_path))
