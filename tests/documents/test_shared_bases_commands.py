"""Shared base models, commands of the document: which jobs, from which files, to which nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request

import pytest

import warm
from hbn_foundation.errors import UserError
from hbn_foundation.experiments.params import GridParams, JobParams, StudyParams
from hbn_foundation.experiments.planner import make_plan
from hbn_foundation.experiments.selection import read_jobs, records, select
from hbn_foundation.experiments.store import Store
from processes import wait_for
from sweep_data import a_base, defaults, make_data


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Bases of two sizes, two modes and two shares, planned without a project."""
    data = make_data(tmp_path_factory.mktemp("planner"), n_channels=4)
    grid = {
        "base": {"n_base_participants": [2, "all"], "trainer.batch_size": [32, 64]},
        "finetune": {"mode": ["full_fine_tuning", "target_only"], "target_data_pct": [0.5, 1.0]},
    }
    return make_plan(data, StudyParams(), GridParams.model_validate(grid), defaults())


def chosen(plan, folder, **params):
    return select(plan, JobParams.model_validate(params), Store(folder / "bases"))


def test_jobs_are_chosen_by_any_field(plan, tmp_path):
    """--fold, --mode, --target_data_pct, --n_base_participants of one job or several."""
    where = {"fold": 0, "mode": "full_fine_tuning", "target_data_pct": 0.5}
    some = chosen(plan, tmp_path, where=where)
    assert {(s.target, s.mode, s.target_data_pct) for s in some.finetunings} == {
        ("S1", "full_fine_tuning", 0.5)
    }
    assert {base.hash for base in some.bases} == {spec.base_hash for spec in some.finetunings}
    assert len(some.bases) == 4
    where |= {"base": {"trainer": {"batch_size": 64}}, "n_base_participants": 2}
    (one,) = chosen(plan, tmp_path, where=where, only_bases=True).bases
    assert (one.trainer.batch_size, len(one.subjects)) == (64, 2)
    listed = chosen(plan, tmp_path, where={"target": ["S1", "S2"]})
    assert {spec.target for spec in listed.finetunings} == {"S1", "S2"}
    spec = plan.finetunings[5]
    alone = chosen(plan, tmp_path, only=spec.id[:16])
    assert [s.hash for s in alone.finetunings] == [spec.hash]
    assert [b.hash for b in alone.bases] == ([spec.base_hash] if spec.base_hash else [])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"where": {"modus": 1}}, r"where\.modus: no job has such a field; .* mode, target_data"),
        ({"where": {"target": "S77"}}, r"where\.target=S77: no job has .*there is S1, S2, S3"),
        ({"where": {"fold": 0, "target": "S2"}}, "no job of those chosen by fold .*there is S1"),
        ({"where": {"trainer.batch_size": 64}}, r"base\.trainer\.batch_size or finetune\.trainer"),
        ({"only": "0123"}, "expected base-<hash>"),
        ({"only": "base-zz"}, "no such job"),
    ],
)
def test_fields_that_match_nothing_say_what_there_is(plan, tmp_path, params, expected):
    """One line, with the values or fields that exist."""
    with pytest.raises(UserError, match=expected) as caught:
        chosen(plan, tmp_path, **params)
    assert "\n" not in str(caught.value)


# Advanced options: custom job files


def test_jobs_come_from_files_and_are_checked(plan, tmp_path):
    """--base-jobs my_base_jobs.json --finetune-jobs my_finetune_jobs.json; a hash that differs."""
    paths = {"base_jobs": tmp_path / "b.json", "finetune_jobs": tmp_path / "f.json"}
    paths["base_jobs"].write_text(json.dumps(records(plan.bases[:1]) * 2))
    mine = [s for s in plan.finetunings if s.base_hash == plan.bases[0].hash]
    paths["finetune_jobs"].write_text(json.dumps(records(mine)))
    texts = {name: str(path) for name, path in paths.items()}
    some = chosen(plan, tmp_path, **texts)
    assert (len(some.bases), len(some.finetunings)) == (1, len(mine))
    assert chosen(plan, tmp_path, **texts, only_bases=True).finetunings == []
    orphans = [s for s in plan.finetunings if s.base_hash == plan.bases[1].hash]
    paths["finetune_jobs"].write_text(json.dumps(records(orphans)))
    with pytest.raises(UserError, match=r"base not found.*kedro run .*only=base-"):
        chosen(plan, tmp_path, **texts)
    rows = records(plan.bases)
    rows[0]["spec"]["trainer"]["epochs"] = 9
    paths["base_jobs"].write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"b\.json: job 0: the hash is .*plan anew"):
        read_jobs(texts["base_jobs"], "base", "sweep.jobs.base_jobs")
    paths["base_jobs"].write_text("{}")
    with pytest.raises(UserError, match="expected a list"):
        chosen(plan, tmp_path, **texts)


# Sync


@pytest.fixture(scope="module")
def s3():
    """The address of a local S3 server that has a bucket."""
    command = shutil.which("moto_server")
    if command is None:
        pytest.skip("moto's server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [command, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers)
    bucket = urllib.request.Request(f"{address}/bucket", method="PUT")
    urllib.request.urlopen(bucket, timeout=30).close()
    yield address
    server.terminate()
    server.wait()


@pytest.fixture
def remote_command(tmp_path):
    """`hbn-foundation bases …` in a process of its own, with a store of one base."""
    store = Store(tmp_path / "bases")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(b"weights")
    store.publish(a_base().hash, tmp_path / "out")

    def run(*arguments, folder=store.root, **environment):
        kept = {name: v for name, v in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
        command = ("bases", "--folder", str(folder), *arguments)
        result = warm.run("hbn_foundation", command, tmp_path, {**kept, **environment})
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


def test_bases_go_through_s3(s3, remote_command, tmp_path):
    """Sync to all nodes, with credentials; without, and without a bucket, one line."""
    there = {"AWS_ENDPOINT_URL": s3}
    sent = remote_command("push", "--url", "s3://bucket/eeg", **there, **KEYS)
    assert "1 sent to s3://bucket/eeg/bases" in sent.stdout
    other = tmp_path / "node"
    got = remote_command("pull", "--url", "s3://bucket/eeg", folder=other, **there, **KEYS)
    assert "1 fetched" in got.stdout
    assert Store(other).get(a_base().hash) is not None
    for command, url, environment, reason in (
        ("push", "s3://bucket/eeg", there, "credentials"),
        ("pull", "s3://nobucket/eeg", {**there, **KEYS}, "([Bb]ucket|exist)"),
    ):
        refused = remote_command(command, "--url", url, folder=tmp_path / "bases", **environment)
        check_one_line(refused, url, reason)


def check_one_line(result, url, reason):
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert re.search(rf"sync failed on worker .*{re.escape(url)}.*{reason}", line), line


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://bucket/eeg", "(connect|endpoint)"),
        ("nonsense://host/x", "nonsense"),
        ("file:///proc/nothing/here", "No such file"),
    ],
)
def test_a_remote_that_refuses_is_one_line(remote_command, url, reason):
    """Sync failures: no host, no such kind of URL, a folder that cannot be written."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", **KEYS}
    check_one_line(remote_command("push", "--url", url, **nowhere), url, reason)


def test_sftp_without_its_package_names_the_extra(remote_command, tmp_path):
    """Sync failures: `sftp` needs what the extra `cluster` brings."""
    (tmp_path / "paramiko.py").write_text("raise ImportError('no paramiko')")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    result = remote_command("push", "--url", "sftp://host/x", PYTHONPATH=path)
    check_one_line(result, "sftp://host/x", r'pip install "hbn-foundation\[cluster\]"')
