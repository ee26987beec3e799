"""Whole experiments on hosts that are reached by ssh, on loopback addresses."""

import os
import threading
from pathlib import Path

import pytest
from fold_data import EVALUATION, PRETRAINING
from job_stand_in import log, make_context, make_plan, order, run

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.experiments.folds import cross_validate
from hbn_foundation.experiments.params import ExperimentParams

pytest.importorskip("asyncssh")

from ssh_on_loopback import Hosts

from processes import wait_for

pytestmark = pytest.mark.slow
SCHEDULER, FIRST, SECOND = "127.0.0.1", "127.0.0.2", "127.0.0.3"
RELATIVE = {"bases": "store/bases", "results": "store/results", "work": "store/work"}


def here(**changes):
    """A context whose folders are named from the folder that this process is in."""
    return make_context(Path(), folders=RELATIVE, **changes)


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Two hosts and one for the scheduler; this process is in a folder that none of them is in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with Hosts(tmp_path, (SCHEDULER, FIRST, SECOND)) as found:
        yield found


def on(hosts, plan, context):
    return run(plan, context, "ssh", ssh=hosts.params)


def test_hosts_without_a_common_disk_get_bases_by_their_hash(tmp_path, hosts):
    plan = make_plan(1, 8)
    done = on(hosts, plan, here(sync={"sync_url": (tmp_path / "url").as_uri()}))
    assert done.failed == []
    name = f"sweep-{os.uname().nodename}"
    for address in (FIRST, SECOND):
        (entry,) = (hosts.home(address) / name / "bases").glob("??/*")
        assert entry.name == plan.bases[0].key
    lines = [
        (hosts.home(address) / name / "work" / "log.txt").read_text() for address in (FIRST, SECOND)
    ]
    assert sum(text.count("start base") for text in lines) == 1
    assert len(list((tmp_path / "here" / "store" / "results").glob("??/*/digests.json"))) == 8


def test_hosts_with_a_common_disk_use_the_same_folders(tmp_path, hosts):
    done = on(hosts, make_plan(1, 4), here())
    assert done.failed == []
    assert len({outcome.worker for outcome in done.outcomes.values()}) == 2
    stores = tmp_path / "here" / "store"
    assert len(list(stores.glob("bases/??/*/digests.json"))) == 1
    assert len(list(stores.glob("results/??/*/digests.json"))) == 4
    assert [
        path for host in (FIRST, SECOND) for path in hosts.home(host).rglob("digests.json")
    ] == []


def test_a_lost_scheduler_ends_the_run_and_the_next_goes_on(tmp_path, hosts):
    plan, context = make_plan(2, 2), make_context(tmp_path)
    victim = plan.bases[1]
    order(tmp_path, **{victim.id: "wait"})

    def kill():
        wait_for(lambda: len([line for line in log(tmp_path) if line.startswith("end")]) == 3)
        wait_for(lambda: f"start {victim.id}" in log(tmp_path))
        hosts.kill(SCHEDULER)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(UserError, match="the connection to Dask's scheduler is lost"):
        on(hosts, plan, context)
    thread.join()
    wait_for(lambda: not hosts.running(FIRST) and not hosts.running(SECOND))
    order(tmp_path)
    again = run(plan, context)
    assert sorted(again.statuses.values()) == ["done"] * 3 + ["kept"] * 3


def test_a_host_that_cannot_be_reached_is_one_clear_line(tmp_path, hosts):
    wrong = {**hosts.params, "connect": {**hosts.params["connect"], "port": 1}}
    with pytest.raises(UserError, match=r"engine=ssh: no cluster: .*127\.0\.0\.1"):
        run(make_plan(1, 0), make_context(tmp_path), "ssh", ssh=wrong)


def test_the_folds_of_a_cross_validation_are_spread_over_hosts(dataset, tmp_path, hosts):
    """As `kedro run --pipeline foundation` does with `experiments.engine: ssh`."""
    params = EVALUATION.model_copy(update={"repeats": RepeatParams(folds=2, repeats=1)})
    experiments = ExperimentParams(
        engine="ssh", ssh=hosts.params, sync_url=(tmp_path / "url").as_uri()
    )
    folds = cross_validate(
        dataset, PRETRAINING, params, tmp_path / "folds", experiments=experiments
    )
    assert folds.groupby("fold").size().tolist() == [3, 3]
    name = f"sweep-{os.uname().nodename}"
    kept = [list((hosts.home(host) / name).glob("encoder/??/*")) for host in (FIRST, SECOND)]
    assert all(kept)  # its own, and perhaps the one of a fold that it scored for the other
