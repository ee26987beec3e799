"""What becomes of jobs that end, die, hang or fail, one after another in the foreground."""

import functools
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from job_stand_in import LIMITS, NARROW, log, make_context, make_plan, order, run

from hbn_foundation.errors import UserError
from hbn_foundation.experiments import worker
from hbn_foundation.experiments.engine import check_reports
from hbn_foundation.experiments.executors import count_workers, make_executor, read_cluster
from hbn_foundation.experiments.job import Outcome
from hbn_foundation.experiments.params import EngineParams
from hbn_foundation.experiments.worker import run_job


def test_each_base_is_trained_once_and_a_second_run_trains_nothing(tmp_path, monkeypatch):
    plan, context, told = make_plan(2, 3), make_context(tmp_path), []
    done = run(plan, context, tell=told.append)
    assert set(done.statuses.values()) == {"done"}
    assert len(done.outcomes) == len(told) == 8
    lines = log(tmp_path)
    assert len(lines) == len(set(lines)) == 16
    for job in plan.tunings:  # not before its own base, but before the other one
        assert lines.index(f"end {job.base.id}") < lines.index(f"start {job.id}")
    assert lines.index(f"end {plan.tunings[0].id}") < lines.index(f"start {plan.bases[1].id}")
    monkeypatch.setattr("hbn_foundation.experiments.engine.make_executor", None)  # none is started
    assert set(run(plan, context).statuses.values()) == {"kept"}
    assert log(tmp_path) == lines
    assert not list((tmp_path / "work").glob("base-*"))


@pytest.mark.parametrize(("fault", "starts"), [("kill*1", 2), ("hang*1", 2), ("kill*2", 3)])
def test_a_job_that_dies_or_hangs_is_tried_again(tmp_path, fault, starts):
    plan = make_plan(1, 1)
    order(tmp_path, **{plan.bases[0].id: fault})
    limits = NARROW if fault.startswith("hang") else LIMITS
    assert run(plan, make_context(tmp_path, limits=limits)).failed == []
    assert log(tmp_path).count(f"start {plan.bases[0].id}") == starts
    (incidents,) = (tmp_path / "bases").glob("??/*/incidents.jsonl")  # kept with the result
    assert len(incidents.read_text().splitlines()) == starts - 1


@pytest.mark.parametrize(
    ("fault", "starts", "what"),
    [("error", 1, "an error was ordered"), ("kill", 3, "given up after 2 restarts")],
)
def test_what_always_fails_blocks_its_own_and_nothing_else(tmp_path, fault, starts, what):
    plan = make_plan(2, 2)
    bad = plan.bases[0]
    order(tmp_path, **{bad.id: fault})
    done = run(plan, make_context(tmp_path))
    found = done.statuses
    assert found.pop(bad.id) == "failed"
    assert log(tmp_path).count(f"start {bad.id}") == starts  # an error is not tried again
    for job in plan.tunings:
        assert found.pop(job.id) == ("blocked" if job.base.key == bad.key else "done")
    assert found == {plan.bases[1].id: "done"}
    with pytest.raises(UserError) as caught:
        check_reports(done.report)
    table = str(caught.value)
    assert what in table
    assert f'kedro run --pipeline sweep --params "sweep.jobs.only={bad.id}"' in table
    assert f"blocked  2 fine-tunings: its base {bad.key} failed" in table
    order(tmp_path)
    again = run(plan, make_context(tmp_path), known={bad.id: done.outcomes[bad.id]})
    assert sorted(again.statuses.values()) == ["blocked"] * 2 + ["failed"] + ["kept"] * 3
    again = run(plan, make_context(tmp_path))
    assert sorted(again.statuses.values()) == ["done"] * 3 + ["kept"] * 3


def test_a_result_that_is_there_is_not_blocked_by_its_base(tmp_path):
    plan, context = make_plan(1, 2), make_context(tmp_path)
    run([*plan.bases, plan.tunings[0]], context)
    context.stores.store("base").quarantine(plan.bases[0].key, "a test")
    done = run(plan, context, known={plan.bases[0].id: Outcome("failed", "not there")})
    assert [done.statuses[job.id] for job in plan.tunings] == ["kept", "blocked"]
    done = run(plan.tunings, context)  # by a plan without it
    assert [done.statuses[job.id] for job in plan.tunings] == ["kept", "blocked"]
    assert f"base not found: {plan.bases[0].key}" in done.outcomes[plan.tunings[1].id].what


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_damaged_base_is_put_aside_and_trained_again(tmp_path, moment):
    plan, context = make_plan(1, 2), make_context(tmp_path)
    base, bases = plan.bases[0], context.stores.store("base")

    def damage(job):
        if job == base and not list(bases.root.glob("quarantine/*")):
            (bases.path(base.key) / "weights").write_text("something else")

    if moment == "before":
        run([base], context)
        damage(base)
    assert run(plan, context, tell=damage if moment == "meanwhile" else None).failed == []
    assert len(list((bases.root / "quarantine").iterdir())) == 1
    assert log(tmp_path).count(f"end {base.id}") == 2
    assert bases.damage(base.key) is None


def test_a_job_that_another_process_has_is_waited_for(tmp_path):
    plan, context = make_plan(1, 1), make_context(tmp_path)
    theirs = context.stores.store("base").lease(plan.bases[0].key)
    assert run_job(plan.bases[0], context).status == "held"
    threading.Timer(1.5, theirs.release).start()
    started, worked = time.monotonic(), time.process_time()
    assert run(plan, context).failed == []
    assert time.monotonic() - started > 1.0
    assert time.process_time() - worked < 1.0  # waiting costs nothing


def test_what_was_trained_and_could_not_be_published_is_not_trained_again(tmp_path, monkeypatch):
    plan, context = make_plan(1, 0), make_context(tmp_path)
    base = plan.bases[0]

    def full(store, key, folder):
        raise UserError(f"{folder}: disk full")

    with monkeypatch.context() as patch:
        patch.setattr("hbn_foundation.experiments.store.Store.publish", full)
        assert run(plan, context).statuses == {base.id: "failed"}
    assert run(plan, context).statuses == {base.id: "done"}
    assert log(tmp_path).count(f"start {base.id}") == 1


def test_threads_are_pinned_and_the_environment_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(worker.Context, "forks", False)
    context = make_context(tmp_path, threads=2)
    given = worker.start_of_children(context, "").keywords["environment"]
    assert given["OMP_NUM_THREADS"] == given["MKL_NUM_THREADS"] == "2"
    assert run(make_plan(1, 0), context).failed == []
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_each_worker_of_a_machine_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    code = "\n".join(
        ["import sys, tempfile", f"tempfile.gettempdir = lambda: {str(tmp_path)!r}",
         "from hbn_foundation.experiments.worker import own_gpu",
         "print(own_gpu(2), own_gpu(2), flush=True)", "sys.stdin.read()"]
    )  # fmt: skip
    start = functools.partial(
        subprocess.Popen, [sys.executable, "-c", code], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    workers = [start(), start()]
    said = [one.stdout.readline().split() for one in workers]
    assert sorted(said) == [["0", "0"], ["1", "1"]]
    workers[said.index(["1", "1"])].kill()
    workers[said.index(["1", "1"])].wait()
    workers.append(start())  # takes the place of the one that died
    assert workers[2].stdout.readline().split() == ["1", "1"]
    named = start(env={**os.environ, "CUDA_VISIBLE_DEVICES": "6,7"})
    assert named.stdout.readline().split() == ["6", "6"]
    for one in (*workers, named):
        one.communicate()


def test_start_up_takes_less_than_a_second(tmp_path):
    done = run(make_plan(1, 6), make_context(tmp_path))
    seconds = sorted(outcome.seconds for outcome in done.outcomes.values())
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
    monkeypatch.setattr("hbn_foundation.experiments.executors.find_spec", lambda name: None)
    ssh = {"hosts": ["a", "b"]} if engine == "ssh" else None
    with pytest.raises(UserError, match=r"not installed; pip install .*\[cluster\]"):
        make_executor(EngineParams(engine=engine, ssh=ssh), make_context(tmp_path))
