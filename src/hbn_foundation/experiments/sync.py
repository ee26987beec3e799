"""The stores of an experiment, and entries sent and fetched by hash where no disk is shared."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.params import SyncParams
from hbn_foundation.experiments.store import DIGESTS, INCOMING, Store
from hbn_foundation.files import path_inside
from hbn_foundation.progress import say

FOLDERS = {"base": "bases", "finetune": "finetunings"}
"""Names of the kinds of result at a URL and in a worker's own folder, where they differ."""


@dataclass(frozen=True)
class Stores:
    """Where results of each kind and unfinished jobs lie, for one worker.

    Attributes
    ----------
    folders
        Of each kind of result.
    work
        Of unfinished jobs.
    sync
        How results reach workers elsewhere.
    worker
        Name of the worker; "" is the process that plans.
    """

    folders: dict[str, Path]
    work: Path
    sync: SyncParams = field(default_factory=SyncParams)
    worker: str = ""

    def __post_init__(self) -> None:  # a worker elsewhere begins in another folder than this one
        absolute = {kind: Path(folder).absolute() for kind, folder in self.folders.items()}
        object.__setattr__(self, "folders", absolute)
        object.__setattr__(self, "work", Path(self.work).absolute())

    def at(self, worker: str) -> Stores:
        """Give the folders of a worker: the common ones, or its own without a common disk."""
        if not (self.sync.sync_url and worker):
            return replace(self, worker=worker)
        names = {"host": socket.gethostname(), "worker": worker.replace("/", "_")}
        own = Path(self.sync.worker_folder.format(**names))
        folders = {kind: own / FOLDERS.get(kind, kind) for kind in self.folders}
        return replace(self, folders=folders, work=own / "work", worker=worker)

    def store(self, kind: str) -> Store:
        """Give the store of a kind of result."""
        return Store(self.folders[kind], kind)

    def remote(self, kind: str) -> Remote | None:
        """Give the store at the URL; None where all share a file system."""
        if not self.sync.sync_url:
            return None
        url = f"{self.sync.sync_url.rstrip('/')}/{FOLDERS.get(kind, kind)}"
        return Remote(url, kind, self.worker)

    def get(self, kind: str, key: str) -> Path | None:
        """Give the folder of a whole entry, fetched where it is elsewhere; None without any."""
        store, remote = self.store(kind), self.remote(kind)
        found = store.get(key)
        if found is None and remote is not None and remote.fetch(key, store):
            found = store.get(key)
        return found

    def send(self, kind: str, key: str) -> None:
        """Send an entry to where others fetch it, unless all share a file system."""
        remote = self.remote(kind)
        if remote is not None:
            remote.push(key, self.store(kind))


@dataclass(frozen=True)
class Remote:
    """A store at a URL, laid out as one on disk.

    Attributes
    ----------
    url
        Of fsspec: `s3://…`, `sftp://…`, `file:///…`.
    what
        One word for an entry, for messages.
    worker
        Who fetches, for messages.
    """

    url: str
    what: str = "base"
    worker: str = ""

    def _open(self) -> tuple[Any, str]:
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            raise self._failure("reaching", error) from None

    def has(self, key: str) -> bool:
        """Tell whether an entry is there and complete."""
        system, root = self._open()
        try:
            return bool(system.exists(f"{root}/{key[:2]}/{key}/{DIGESTS}"))
        except OSError as error:
            raise self._failure("reaching", error) from None

    def fetch(self, key: str, store: Store) -> bool:
        """Bring an entry into a store; False when there is none.

        One that arrives damaged twice is damaged there: it is put aside, so that it is made anew.

        Raises
        ------
        UserError
            When it cannot be reached.
        """
        problem = ""
        for _ in range(2):
            if not self.has(key):
                return False
            problem = self._bring(key, store)
            if not problem:
                return True
        self._put_aside(key, problem)
        return False

    def _bring(self, key: str, store: Store) -> str:
        """Fetch an entry; say what is wrong with what has arrived."""
        system, root = self._open()
        there = f"{root}/{key[:2]}/{key}"
        folder = store.root / INCOMING / f"fetch.{secrets.token_hex(4)}" / key[:2] / key
        folder.mkdir(parents=True)
        try:
            with system.open(f"{there}/{DIGESTS}", "rb") as file:
                content = file.read()
            paths = {name: path_inside(folder, name) for name in json.loads(content)["files"]}
            (folder / DIGESTS).write_bytes(content)
            for name, path in paths.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{there}/{name}", str(path))
            return store.receive(key, folder)
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._failure(f"fetching {self.what} {key} from", error) from None
        finally:
            shutil.rmtree(folder.parents[1], ignore_errors=True)

    def _put_aside(self, key: str, problem: str) -> None:
        """Make an entry incomplete, which it is not read as; its files stay until the next one."""
        system, root = self._open()
        digests = f"{root}/{key[:2]}/{key}/{DIGESTS}"
        try:
            system.mv(digests, f"{digests}.{secrets.token_hex(4)}.damaged")
        except OSError as error:
            raise self._failure(f"fetching {self.what} {key} from", error) from None
        say(f"{self.what} {key}: damaged at {self.url} ({problem}); it is not used")

    def push(self, key: str, store: Store) -> None:
        """Send an entry; its digests go last, so that no half of it is fetched.

        Raises
        ------
        UserError
            When it cannot be sent.
        """
        if self.has(key):
            return
        system, root = self._open()
        there, here = f"{root}/{key[:2]}/{key}", store.path(key)
        try:
            system.makedirs(there, exist_ok=True)
            names = json.loads((here / DIGESTS).read_text())["files"]
            for name, path in {name: path_inside(here, name) for name in names}.items():
                system.makedirs(f"{there}/{name}".rpartition("/")[0], exist_ok=True)
                system.put_file(str(path), f"{there}/{name}")
            draft = f"{there}/.{DIGESTS}.{secrets.token_hex(4)}"
            system.put_file(str(here / DIGESTS), draft)
            system.mv(draft, f"{there}/{DIGESTS}")
        except OSError as error:
            raise self._failure(f"sending {self.what} {key} to", error) from None

    def _failure(self, doing: str, error: Exception) -> UserError:
        worker = self.worker or socket.gethostname()
        text = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"sync failed on worker {worker}: {doing} {self.url}: {text}")
