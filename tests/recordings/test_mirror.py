from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import fsspec
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import SelectionParams


@pytest.fixture
def remote():
    files = fsspec.filesystem("memory")
    top = "/release"
    for subject in ("a", "b", "c"):
        for task in ("rest", "ccd"):
            stem = f"{top}/sub-{subject}/eeg/sub-{subject}_task-{task}"
            files.pipe(f"{stem}_eeg.set", b"header")
            files.pipe(f"{stem}_eeg.fdt", b"signal" * 10)
            files.pipe(f"{stem}_channels.tsv", b"name\ttype\n")
            files.pipe(f"{stem}_events.tsv", b"onset\tvalue\n")
        files.pipe(f"{top}/sub-{subject}/eeg/sub-{subject}_electrodes.tsv", b"name\tx\ty\tz\n")
        files.pipe(f"{top}/sub-{subject}/eeg/sub-{subject}_task-net_eeg.mff/signal1.bin", b"s")
    files.pipe(f"{top}/participants.tsv", b"participant_id\tsex\nsub-a\tF\nsub-b\tM\nsub-c\tM\n")
    files.pipe(f"{top}/dataset_description.json", b"{}")
    yield files
    files.rm(top, recursive=True)


def mirrored(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_only_what_is_selected_is_fetched_with_its_sidecars(remote, tmp_path):
    selection = SelectionParams(tasks=["rest"], participants={"sex": ["M"]}, max_subjects=1)
    table = find_recordings("memory://release", selection, cache=tmp_path)
    assert list(table["recording"]) == ["sub-b_task-rest"]
    assert mirrored(tmp_path / "memory" / "release") == {
        "dataset_description.json",
        "participants.tsv",
        "sub-b/eeg/sub-b_electrodes.tsv",
        "sub-b/eeg/sub-b_task-rest_channels.tsv",
        "sub-b/eeg/sub-b_task-rest_eeg.fdt",
        "sub-b/eeg/sub-b_task-rest_eeg.set",
        "sub-b/eeg/sub-b_task-rest_events.tsv",
    }


@pytest.mark.parametrize("end", ["", "/"])
def test_a_web_server_is_read(tmp_path, end):
    path = tmp_path / "site/bids/sub-a/eeg/sub-a_task-rest_eeg.edf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"signal")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/bids{end}"
        table = find_recordings(url, cache=tmp_path / "cache")
        server.shutdown()
    assert Path(table["bids_root"][0], table["path"][0]).read_bytes() == b"signal"


def test_a_recording_that_is_a_folder_is_fetched_whole(remote, tmp_path):
    table = find_recordings("memory://release", SelectionParams(tasks=["net"]), cache=tmp_path)
    assert len(table) == 3
    assert table["format"].unique() == ["EGI"]
    path = Path(table["bids_root"].iat[0], table["path"].iat[0], "signal1.bin")
    assert path.read_bytes() == b"s"


def test_what_is_there_is_not_fetched_again(remote, tmp_path, monkeypatch):
    find_recordings("memory://release", cache=tmp_path)
    fetched = []
    get_file = type(remote).get_file
    monkeypatch.setattr(
        type(remote), "get_file", lambda s, a, b, **k: (fetched.append(a), get_file(s, a, b, **k))
    )
    remote.pipe("/release/sub-a/eeg/sub-a_task-rest_eeg.fdt", b"longer now" * 30)
    table = find_recordings("memory://release", cache=tmp_path)
    assert len(table) == 9
    assert [name.rpartition("/")[2] for name in fetched] == ["sub-a_task-rest_eeg.fdt"]


def test_a_broken_transfer_leaves_no_half_file(remote, tmp_path, monkeypatch):
    def broken(self, source, target, **_):
        with open(target, "wb") as file:
            file.write(b"half")
        raise ConnectionResetError("the line went dead")

    monkeypatch.setattr(type(remote), "get_file", broken)
    with pytest.raises(UserError, match=r"memory://release: cannot be read .*line went dead"):
        find_recordings("memory://release", cache=tmp_path)
    assert mirrored(tmp_path) == set()


@pytest.fixture
def offline(remote, monkeypatch):
    """A function that makes the remote unreachable."""

    def refuse(self, *args, **options):
        raise ConnectionRefusedError("no network")

    def cut():
        for name in ("ls", "find", "info", "get_file"):
            monkeypatch.setattr(type(remote), name, refuse)

    return cut


@pytest.mark.parametrize(
    ("fetched", "asked"),
    [
        ({}, {}),
        ({}, {"tasks": ["task-ccd"], "max_subjects": 1}),
        ({"subjects": ["a", "sub-b"]}, {"subjects": ["b"], "runs": None}),
        ({"exclude_subjects": ["a"]}, {"exclude_subjects": ["sub-a", "c"]}),
        ({"participants": {"sex": ["M", "F"]}}, {"participants": {"sex": ["M"]}}),
        ({"tasks": ["rest"], "max_subjects": 2}, {"tasks": ["rest"], "max_subjects": 1}),
    ],
)
def test_a_complete_mirror_is_used_without_the_network(
    remote, offline, tmp_path, caplog, fetched, asked
):
    caplog.set_level("INFO")
    find_recordings("memory://release", SelectionParams(**fetched), cache=tmp_path)
    with_network = find_recordings("memory://release", SelectionParams(**asked), cache=tmp_path)
    find_recordings("memory://release", SelectionParams(tasks=["net"]), cache=tmp_path)
    offline()
    table = find_recordings("memory://release", SelectionParams(**asked), cache=tmp_path)
    assert table.equals(with_network)
    assert "memory://release: cannot be read (no network); its mirror" in caplog.text


@pytest.mark.parametrize(
    ("fetched", "asked"),
    [
        ({"tasks": ["rest"]}, {}),
        ({"tasks": ["rest"]}, {"tasks": ["rest", "ccd"]}),
        ({"exclude_subjects": ["a"]}, {}),
        ({"participants": {"sex": ["M"]}}, {"participants": {"sex": ["M", "F"]}}),
        ({"max_subjects": 1}, {"max_subjects": 2}),
        ({"max_subjects": 1}, {"max_subjects": 1, "exclude_subjects": ["a"]}),
        ({"max_subjects": 1}, {}),
    ],
)
def test_a_mirror_of_something_else_is_not_used(remote, offline, tmp_path, fetched, asked):
    find_recordings("memory://release", SelectionParams(**fetched), cache=tmp_path)
    offline()
    with pytest.raises(UserError, match=r"^memory://release: cannot be read \(no network\)"):
        find_recordings("memory://release", SelectionParams(**asked), cache=tmp_path)


def test_a_mirror_that_has_lost_a_file_or_its_listing_is_not_used(remote, offline, tmp_path):
    root = Path(find_recordings("memory://release", cache=tmp_path)["bids_root"].iat[0])
    (root / "sub-a/eeg/sub-a_task-rest_eeg.fdt").write_bytes(b"half")
    offline()
    with pytest.raises(UserError, match=r"no network.*1 files of its mirror .*task-rest_eeg.fdt"):
        find_recordings("memory://release", cache=tmp_path)
    for damaged in ("", "{}", "[]", "half"):
        root.with_name("release.listing.json").write_text(damaged)
        with pytest.raises(UserError, match=r"cannot be read \(no network\)$"):
            find_recordings("memory://release", cache=tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "sub-a/eeg/../../../../../evil_eeg.set",
        "sub-a/eeg/C:/evil_eeg.set/..",
        "sub-a/eeg/..\\..\\evil_eeg.set",
        "sub-a/eeg//../../../evil_eeg.set",
        "sub-C:\\evil/eeg/sub-1_eeg.set",
        "C:evil.tsv",
        "\\evil.json",
    ],
)
def test_remote_names_that_lead_out_are_refused_before_anything_is_written(remote, tmp_path, name):
    remote.store[f"/release/{name}"] = remote.store["/release/participants.tsv"]
    with pytest.raises(UserError, match=r"expected the name of a file in .*; nothing is written"):
        find_recordings("memory://release", cache=tmp_path / "cache")
    assert mirrored(tmp_path) == set()
    del remote.store[f"/release/{name}"]


def test_links_in_the_cache_lead_nowhere(remote, tmp_path):
    elsewhere, mirror = tmp_path / "elsewhere", tmp_path / "cache" / "memory" / "release"
    elsewhere.mkdir()
    mirror.mkdir(parents=True)
    (mirror / "sub-b").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"sub-b/eeg/.*leads out of .* by a link"):
        find_recordings("memory://release", cache=tmp_path / "cache")
    assert mirrored(elsewhere) == set()
    assert mirrored(mirror) == set()


@pytest.mark.parametrize(
    ("url", "selection", "message"),
    [
        ("memory://nowhere", {}, "memory://nowhere: no such folder"),
        ("nothing://at/all", {}, "nothing://at/all: cannot be read"),
        ("memory://release", {"tasks": ["x"]}, r"tasks = \[x\]; there are: ccd, net, rest"),
    ],
)
def test_urls_without_what_is_asked_for(remote, tmp_path, url, selection, message):
    with pytest.raises(UserError, match=message):
        find_recordings(url, SelectionParams(**selection), cache=tmp_path)
