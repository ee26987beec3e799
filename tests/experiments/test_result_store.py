"""Entries appear whole or not at all; what is damaged is found and put aside."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import time

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.store import DIGESTS, QUARANTINE, Store
from hbn_foundation.experiments.sync import Remote

KEY = "0123456789abcdef"


def prepared(folder, text="weights"):
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text(text)
    (folder / "spec.json").write_text(json.dumps({"kind": "pretraining"}))
    (folder / "more").mkdir()
    (folder / "more" / "history.csv").write_text("epoch\n0\n")
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bases")


def test_an_entry_is_published_and_found(store, tmp_path):
    assert store.get(KEY) is None
    assert not store.has(KEY)
    assert store.publish(KEY, prepared(tmp_path / "out"))
    assert store.get(KEY) == store.path(KEY) == store.root / "01" / KEY
    assert store.hashes() == [KEY]
    assert store.spec(KEY) == {"kind": "pretraining"}
    assert store.find("base-0123") == KEY
    assert not (tmp_path / "out").exists()
    files = json.loads((store.path(KEY) / DIGESTS).read_text())["files"]
    assert sorted(files) == ["more/history.csv", "spec.json", "weights.safetensors"]


def test_the_first_to_publish_wins(store, tmp_path):
    store.publish(KEY, prepared(tmp_path / "first", "first"))
    assert not store.publish(KEY, prepared(tmp_path / "second", "second"))
    assert (store.path(KEY) / "weights.safetensors").read_text() == "first"
    assert not list((store.root / "incoming").iterdir())


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing", "no digests", "other hash"])
def test_a_damaged_entry_is_put_into_quarantine_and_can_be_made_anew(store, tmp_path, damage):
    store.publish(KEY, prepared(tmp_path / "out"))
    folder = store.path(KEY)
    weights, digests = folder / "weights.safetensors", folder / DIGESTS
    if damage == "changed":
        weights.write_text("wEights")
    elif damage == "shorter":
        weights.write_text("weight")
    elif damage == "missing":
        weights.unlink()
    elif damage == "no digests":
        digests.unlink()
    else:
        digests.write_text(digests.read_text().replace(KEY, "f" * 16))
    assert store.get(KEY) is None
    assert not store.has(KEY)
    (aside,) = (store.root / QUARANTINE).iterdir()
    assert aside.name.startswith(KEY)
    assert (aside / "why.txt").read_text().strip()
    assert store.publish(KEY, prepared(tmp_path / "again"))
    assert store.get(KEY) is not None


def test_a_folder_without_digests_is_in_nobodys_way(store, tmp_path):
    prepared(store.path(KEY))  # as a program that makes the folder first would leave it
    assert not store.has(KEY)
    assert store.publish(KEY, prepared(tmp_path / "out"))
    assert store.get(KEY) is not None


def test_a_hash_that_is_not_there_or_not_clear_is_named(store, tmp_path):
    with pytest.raises(UserError, match="01: there is none"):
        store.find("01")
    for key in (KEY, "0123456789abcde0"):
        store.publish(key, prepared(tmp_path / key))
    with pytest.raises(UserError, match="2 begin so"):
        store.find("0123")


def test_leftovers_are_what_nobody_needs(store, tmp_path):
    store.publish(KEY, prepared(tmp_path / "out"))
    unfinished = prepared(store.root / "incoming" / "aaaa")
    store.quarantine(KEY, "a test")
    assert [path.name for path in store.leftovers()] == [
        next((store.root / QUARANTINE).iterdir()).name
    ]
    assert unfinished in set(store.leftovers(older_than=-1))
    for path in list(store.leftovers(older_than=-1)):
        store.remove(path)
    assert list(store.leftovers(older_than=-1)) == []


def publish_until_killed(root, out, started):
    started.set()
    place = Store(root)
    for number in range(10_000):
        key = f"{number:016x}"
        place.publish(key, prepared(out / key, "w" * 50_000))


def test_a_kill_at_any_moment_leaves_only_whole_entries(store, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    for attempt in range(3):
        started = spawn.Event()
        arguments = (store.root, tmp_path / f"out{attempt}", started)
        process = spawn.Process(target=publish_until_killed, args=arguments)
        process.start()
        assert started.wait(30)
        time.sleep(0.05 + 0.03 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert all(store.damage(path.name) is None for path in store.root.glob("??/*"))


def hold(root, ready):
    with Store(root).lease(KEY):
        ready.set()
        time.sleep(600)


def test_a_lease_has_one_holder_and_is_free_when_that_is_killed(store):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=hold, args=(store.root, ready))
    process.start()
    assert ready.wait(60)
    assert store.lease(KEY) is None
    assert store.held(KEY)
    process.kill()
    process.join()
    assert not store.held(KEY)
    with store.lease(KEY):
        assert store.lease(KEY) is None  # nor is it free for this process again
    assert not store.held(KEY)


def content(folder):
    return {p.name: p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != DIGESTS}


@pytest.mark.parametrize("there", [True, False])
def test_a_disk_that_is_full_at_the_end_of_a_training_keeps_what_it_gave(
    small_disk, tmp_path, there
):
    """The result lies on the full disk itself, where its digests do not fit, or on another."""
    store = Store(small_disk / "bases")
    folder = prepared((small_disk if there else tmp_path) / "out", "w" * 50_000)
    before = content(folder)
    with contextlib.suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)
    with pytest.raises(UserError, match="disk full"):
        store.publish(KEY, folder)
    assert content(folder) == before
    assert not store.has(KEY)
    (small_disk / "ballast").unlink()
    assert store.publish(KEY, folder)
    assert store.damage(KEY) is None


def test_a_result_that_cannot_get_its_name_stays(store, tmp_path, monkeypatch):
    folder = prepared(tmp_path / "out")
    before = content(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "_put", full)
    with pytest.raises(UserError, match="disk full"):
        store.publish(KEY, folder)
    monkeypatch.undo()
    assert content(folder) == before
    assert store.publish(KEY, folder)
    assert store.damage(KEY) is None


@pytest.mark.parametrize(
    "name",
    [
        "../../../evil",
        "/tmp/evil",
        "more/../../evil",
        "C:evil",
        "..\\evil",
        "\\evil",
        "",
        ".",
        "a\0",
    ],
)
def test_names_in_digests_that_lead_out_are_refused_before_anything_is_written(
    store, tmp_path, name
):
    there = Store(tmp_path / "remote")
    there.publish(KEY, prepared(tmp_path / "out"))
    digests = there.path(KEY) / DIGESTS
    record = json.loads(digests.read_text())
    digests.write_text(json.dumps({**record, "files": {**record["files"], name: "0" * 64}}))
    remote = Remote(f"file://{there.root}")
    with pytest.raises(UserError, match=r"expected the name of a file in .*; nothing is written"):
        remote.fetch(KEY, store)
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    assert not (tmp_path / "evil").exists()
    with pytest.raises(UserError, match="expected the name of a file"):
        Remote(f"file://{tmp_path / 'other'}").push(KEY, there)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]
    assert there.get(KEY) is None  # nor is it read where it is


def test_an_entry_with_a_link_out_of_it_is_damaged(store, tmp_path):
    store.publish(KEY, prepared(tmp_path / "out"))
    more = store.path(KEY) / "more"
    more.rename(tmp_path / "elsewhere")
    more.symlink_to(tmp_path / "elsewhere")
    assert store.damage(KEY) == f"{DIGESTS} names 'more/history.csv', which is not in its folder"
