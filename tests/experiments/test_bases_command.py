"""`hbn-foundation bases`: what is there, whether it is whole, and what may go."""

import json

import pytest
from click.testing import CliRunner

from hbn_foundation.cli import cli
from hbn_foundation.experiments.selection import records
from hbn_foundation.experiments.store import Store
from sweep_data import a_base


@pytest.fixture
def folder(tmp_path):
    """Two bases; the second has another seed."""
    store = Store(tmp_path / "bases")
    for seed in (0, 1):
        spec = a_base(trainer={"seed": seed})
        out = tmp_path / "out"
        out.mkdir()
        (out / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
        (out / "metrics.json").write_text(json.dumps({"validation_loss": 0.5, "seconds": 12.0}))
        (out / "weights").write_bytes(b"0" * 2_000_000)
        store.publish(spec.hash, out)
    return tmp_path / "bases"


def bases(folder, *arguments):
    return CliRunner().invoke(cli, ["bases", "--folder", str(folder), *arguments])


def test_they_are_listed_and_shown(folder):
    first, second = (a_base(trainer={"seed": seed}).hash for seed in (0, 1))
    text = bases(folder, "list").output
    assert first in text
    assert second in text
    assert "pretraining, band_completion" in text
    assert "2.0" in text
    content = json.loads(bases(folder, "show", first[:6]).output)
    assert content["hash"] == first
    assert content["spec"]["train_subjects"] == ["S2", "S3"]
    assert content["metrics"]["seconds"] == 12.0
    wrong = bases(folder, "show", "zz")
    assert wrong.exit_code == 1
    assert "base zz: there is none" in wrong.output


@pytest.mark.parametrize("damage", ["weights", "spec"])
def test_verify_finds_what_is_damaged(folder, damage):
    assert bases(folder, "verify").exit_code == 0
    key = a_base().hash
    store = Store(folder)
    if damage == "weights":
        (store.path(key) / "weights").write_bytes(b"1")
    else:  # whole files, but of another job
        other = a_base(trainer={"seed": 7}).model_dump(mode="json")
        path = store.path(key)
        (path / "spec.json").write_text(json.dumps(other))
        (path / "digests.json").unlink()
        path.rename(folder / "again")
        store.publish(key, folder / "again")
    result = bases(folder, "verify")
    assert result.exit_code == 1
    assert key in result.output
    assert "1 of 2 bases are whole" in result.output
    assert not store.has(key)
    assert bases(folder, "verify").exit_code == 0


def test_gc_removes_what_no_plan_needs(folder, tmp_path):
    store = Store(folder)
    first, second = (a_base(trainer={"seed": seed}) for seed in (0, 1))
    store.quarantine(second.hash, "a test")
    plan = tmp_path / "base_jobs.json"
    plan.write_text(json.dumps(records([second])))
    assert "would remove" in bases(folder, "gc", "--dry-run", "--keep", str(plan)).output
    assert store.has(first.hash)
    assert "1 removed" in bases(folder, "gc").output  # the quarantine
    assert store.has(first.hash)
    assert "1 removed" in bases(folder, "gc", "--keep", str(plan)).output
    assert store.hashes() == []


def test_a_folder_that_is_no_store_is_named(tmp_path):
    result = bases(tmp_path / "nothing", "list")
    assert result.exit_code == 1
    assert "no store of bases here" in result.output
