"""Whole experiments on Dask's local cluster: workers and schedulers die, nothing is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import job_stand_in
import pytest
from job_stand_in import log, make_context, make_plan, order, run, worker_of

from hbn_foundation.experiments.worker import run_job
from processes import alive, wait_for


def ended(folder, work="work"):
    """How often each job came to its end."""
    return Counter(line.partition(" ")[2] for line in log(folder, work) if line.startswith("end"))


@pytest.mark.parametrize("kind", ["base", pytest.param("finetune", marks=pytest.mark.slow)])
def test_a_killed_worker_costs_one_start(tmp_path, kind):
    plan = make_plan(2, 2)
    victim = (plan.bases if kind == "base" else plan.tunings)[0]
    order(tmp_path, **{victim.id: "wait"})
    killed = []

    def kill():
        wait_for(lambda: f"start {victim.id}" in log(tmp_path))
        wait_for((tmp_path / "work" / f"pid-{victim.id}").is_file)
        time.sleep(0.1)
        worker = worker_of(tmp_path, victim.id)
        child = int((tmp_path / "work" / f"pid-{victim.id}").read_text())
        os.kill(worker, signal.SIGKILL)
        killed.extend([worker, child])
        wait_for(lambda: not alive(child))
        (tmp_path / "work" / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    done = run(plan, make_context(tmp_path), "local", workers=2)
    thread.join()
    assert len(killed) == 2
    assert done.failed == []
    assert log(tmp_path).count(f"start {victim.id}") == 2
    assert set(ended(tmp_path).values()) == {1}
    assert len(ended(tmp_path)) == 6


@pytest.mark.slow
def test_a_worker_that_dies_each_time_fails_its_job_alone(tmp_path):
    """The job kills its worker, again and again: the others are done, its dependents blocked."""
    plan = make_plan(2, 1)
    victim = plan.bases[0]
    order(tmp_path, **{victim.id: "kill_worker"})
    done = run(plan, make_context(tmp_path, retries=1), "local", workers=2)
    assert done.statuses[victim.id] == "failed"
    assert "its worker died 2 times" in done.outcomes[victim.id].what
    assert log(tmp_path).count(f"start {victim.id}") == 2
    blocked, other = (done.statuses[job.id] for job in plan.tunings)
    assert blocked == "blocked"
    assert other in ("done", "kept")  # its answer may be lost with a worker, its result is not


def start(folder, work="work", n_bases=2, per_base=3, workers=1):
    arguments = (folder, work, n_bases, per_base, workers)
    return subprocess.Popen(
        [sys.executable, job_stand_in.__file__, *map(str, arguments)], stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_experiment_goes_on_with_what_is_missing(tmp_path):
    plan = make_plan(2, 3)
    victim = plan.bases[1]
    order(tmp_path, **{victim.id: "wait"})
    process = start(tmp_path)
    wait_for((tmp_path / "work" / f"pid-{victim.id}").is_file)
    child = int((tmp_path / "work" / f"pid-{victim.id}").read_text())
    worker = worker_of(tmp_path, victim.id)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(child) and not alive(worker))
    done = ended(tmp_path)
    assert plan.bases[0].id in done
    assert victim.id not in done
    order(tmp_path)
    process = start(tmp_path)
    outcomes = json.loads(process.communicate(timeout=300)[0])
    assert process.returncode == 0
    assert Counter(outcomes.values()) == {"kept": len(done), "done": 8 - len(done)}
    assert set(ended(tmp_path).values()) == {1}
    assert len(ended(tmp_path)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("works", [("work", "work"), ("work", "other")])
def test_two_experiments_at_once_train_each_base_once(tmp_path, works):
    """Two runs of one project, or of two projects that share their stores alone."""
    for work in works:
        order(tmp_path, work, base="wait")
    processes = [start(tmp_path, work, n_bases=3, per_base=2) for work in works]
    wait_for(lambda: sum(len(log(tmp_path, work)) for work in set(works)) >= 2)  # a base of each
    for work in works:
        (tmp_path / work / "go").touch()
    outcomes = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    found = sum((ended(tmp_path, work) for work in set(works)), Counter())
    assert set(found.values()) == {1}
    assert len(found) == 9
    for name in outcomes[0]:
        assert sorted(outcome[name] for outcome in outcomes) == ["done", "kept"]


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_workers_without_a_common_store_get_bases_by_their_hash(tmp_path, skip):
    sync = {
        "sync_url": (tmp_path / "url").as_uri(),
        "worker_folder": str(tmp_path / "worker-{worker}"),
        "skip_sync": skip,
    }
    for number in (0, 1):
        order(tmp_path / f"worker-{number}", finetune="wait")
        (tmp_path / f"worker-{number}" / "work" / "go").touch()
    done = run(make_plan(1, 8), make_context(tmp_path, sync=sync), "local", workers=2)
    used = {outcome.worker for outcome in done.outcomes.values() if outcome.status == "done"}
    there = [len(list((tmp_path / f"worker-{n}" / "bases").glob("??/*"))) for n in (0, 1)]
    if skip:  # one of the two has trained the base, the other is told to have it
        assert used <= {"0", "1"}
        assert sorted(there) == [0, 1]
        assert all("base not found" in done.outcomes[name].what for name in done.failed)
        return
    assert done.failed == []
    assert used == {"0", "1"}
    assert there == [1, 1]
    assert len(list((tmp_path / "results").glob("??/*"))) == 8
    starts = [(tmp_path / f"worker-{n}" / "work" / "log.txt").read_text() for n in (0, 1)]
    assert sum(text.count("start base") for text in starts) == 1


@pytest.mark.slow
def test_a_base_that_is_damaged_at_the_url_is_trained_again(tmp_path):
    sync = {"sync_url": (tmp_path / "url").as_uri(), "worker_folder": str(tmp_path / "worker")}
    plan, context = make_plan(1, 1), make_context(tmp_path, sync=sync)
    base = plan.bases[0]
    run([base], context, "local", workers=1)
    (there,) = (tmp_path / "url" / "bases").glob(f"??/{base.key}")
    (there / "weights").write_text("something else")
    for folder in ("worker", "bases"):
        shutil.rmtree(tmp_path / folder)
    assert set(run(plan, context, "local", workers=1).statuses.values()) == {"done"}
    assert (there / "weights").read_text() == f"weights of {base.id}"
    assert len(list(there.glob("digests.json*.damaged"))) == 1


def test_a_store_that_cannot_be_reached_names_the_worker(tmp_path):
    sync = {"sync_url": "nonsense://host/x", "worker_folder": str(tmp_path / "worker-{worker}")}
    outcome = run_job(make_plan(1, 0).bases[0], make_context(tmp_path, sync=sync), "gpu-7")
    assert outcome.status == "failed"
    assert "sync failed on worker gpu-7" in outcome.what
