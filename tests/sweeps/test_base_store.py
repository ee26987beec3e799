"""Entries appear whole or not at all; what is damaged is found and put aside."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.sweeps import lease
from hbn_foundation.sweeps import store as stores
from hbn_foundation.sweeps.store import DIGESTS, QUARANTINE, Store

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
    assert store.take(KEY) is None
    assert not store.has(KEY)
    assert store.publish(KEY, prepared(tmp_path / "out"))
    assert store.take(KEY) == store.path(KEY) == store.root / "01" / KEY
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
    assert store.take(KEY) is None
    assert not store.has(KEY)
    (aside,) = (store.root / QUARANTINE).iterdir()
    assert aside.name.startswith(KEY)
    assert (aside / "why.txt").read_text().strip()
    assert store.publish(KEY, prepared(tmp_path / "again"))
    assert store.take(KEY) is not None


def test_a_folder_without_digests_is_in_nobodys_way(store, tmp_path):
    prepared(store.path(KEY))  # as a program that makes the folder first would leave it
    assert not store.has(KEY)
    assert store.publish(KEY, prepared(tmp_path / "out"))
    assert store.take(KEY) is not None


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


def test_a_lease_has_one_holder(tmp_path):
    path = tmp_path / "leases" / "a.json"
    first = lease.acquire(path)
    assert first is not None
    assert lease.acquire(path) is None
    assert lease.holder(path) == f"process {os.getpid()} on {os.uname().nodename}"
    first.release()
    assert lease.holder(path) is None
    with lease.acquire(path) as second:
        assert second is not None


def hold(path, held):
    assert lease.acquire(path) is not None
    held.set()
    time.sleep(1000)


def test_the_lease_of_a_dead_process_is_free_at_once(tmp_path):
    path = tmp_path / "a.json"
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=hold, args=(path, held))
    process.start()
    assert held.wait(30)
    assert lease.acquire(path) is None
    process.kill()
    process.join()
    assert lease.acquire(path) is not None


def test_the_lease_of_another_start_of_this_machine_is_free(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr(lease, "boot_id", lambda: "before")
    lease.acquire(path)._ended.set()
    monkeypatch.undo()
    assert lease.acquire(path) is not None


def test_the_lease_of_another_host_is_free_when_it_is_silent(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "elsewhere")
    theirs = lease.acquire(path, beat=0.05)
    monkeypatch.undo()
    for _ in range(5):
        time.sleep(0.05)
        assert lease.acquire(path, expires=0.3) is None  # it beats
    theirs._ended.set()
    time.sleep(0.4)
    mine = lease.acquire(path, expires=0.3)
    assert mine is not None
    theirs.release()  # it wakes up: what is mine stays mine
    assert lease.holder(path) is not None


def race(path, barrier, won):
    barrier.wait()
    if lease.acquire(path, expires=0.0) is not None:
        won.put(os.getpid())
        time.sleep(1)


def test_a_race_for_a_lease_has_one_winner(tmp_path):
    path = tmp_path / "a.json"
    spawn = multiprocessing.get_context("spawn")
    barrier, won = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=race, args=(path, barrier, won)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    winners = []
    while not won.empty():
        winners.append(won.get())
    assert len(winners) == 1
    assert not [p for p in stores.Path(tmp_path).iterdir() if p.name.startswith(".a.json")]
