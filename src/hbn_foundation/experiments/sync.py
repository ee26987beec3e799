"""The stores of an experiment, and entries sent and fetched by hash where no disk is shared."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.params import SyncParams
from hbn_foundation.experiments.store import DIGESTS, INCOMING, Store
from hbn_foundation.files import path_inside
from hbn_foundation.progress import say
from hbn_foundation.training.supervision.supervisor import TrainingStopped

OBJECT_STORES = ("s3:", "s3a:", "gs:", "gcs:", "abfs:", "az:")
OF_CLUSTER = ("sftp:", "ssh:")
"""URLs whose package comes with the extra `cluster`."""
FOLDERS = {"base": "bases", "finetune": "finetunings"}
"""Names of the kinds of result at a URL and in a worker's own folder, where they differ."""


def url_of(sync_url: str, kind: str) -> str:
    """URL of the results of a kind."""
    return f"{sync_url.rstrip('/')}/{FOLDERS.get(kind, kind)}"


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
    needs
        What an entry of a kind must have, such as fine-tuned weights.
    """

    folders: dict[str, Path]
    work: Path
    sync: SyncParams = field(default_factory=SyncParams)
    worker: str = ""
    needs: dict[str, str] = field(default_factory=dict)

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
        return Store(self.folders[kind], kind, self.needs.get(kind, ""))

    def remote(self, kind: str) -> Remote | None:
        """Give the store at the URL; None where all share a file system."""
        if not self.sync.sync_url:
            return None
        return Remote(url_of(self.sync.sync_url, kind), kind, self.worker, self.needs.get(kind, ""))

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
    needs
        As of `Store`.
    """

    url: str
    what: str = "base"
    worker: str = ""
    needs: str = ""

    @contextlib.contextmanager
    def _open(self, doing: str = "reaching") -> Iterator[tuple[Any, str]]:
        """Give the file system and the root; whatever it raises becomes one line.

        Raises
        ------
        UserError
            Naming the worker, the URL and the reason.
        """
        import fsspec

        try:
            yield fsspec.core.url_to_fs(self.url)
        except TrainingStopped:
            raise
        except Exception as error:  # each file system has errors of its own
            worker = self.worker or socket.gethostname()
            text = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, ImportError) and self.url.startswith(OF_CLUSTER):
                text += '; pip install "hbn-foundation[cluster]"'
            raise UserError(f"sync failed on worker {worker}: {doing} {self.url}: {text}") from None

    def has(self, key: str) -> bool:
        """Tell whether an entry is there and complete."""
        with self._open() as (system, root):
            there = f"{root}/{key[:2]}/{key}"
            whole = system.exists(f"{there}/{DIGESTS}")
            return bool(whole and (not self.needs or system.exists(f"{there}/{self.needs}")))

    def hashes(self) -> list[str]:
        """Hashes of all complete entries, sorted."""
        with self._open("listing") as (system, root):
            system.invalidate_cache()
            system.ls(root)  # an error where it is missing, unlike `glob`
            found = system.glob(f"{root}/??/*/{DIGESTS}")
            return sorted(path.split("/")[-2] for path in found)

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
        with self._open(f"fetching {self.what} {key} from") as (system, root):
            digests = f"{root}/{key[:2]}/{key}/{DIGESTS}"  # without, it is not read as an entry
            system.mv(digests, f"{digests}.{secrets.token_hex(4)}.damaged")
        say(f"{self.what} {key}: damaged at {self.url} ({problem}); it is not used")
        return False

    def _bring(self, key: str, store: Store) -> str:
        """Fetch an entry; say what is wrong with what has arrived."""
        folder = store.root / INCOMING / f"fetch.{secrets.token_hex(4)}" / key[:2] / key
        folder.mkdir(parents=True)
        try:
            with self._open(f"fetching {self.what} {key} from") as (system, root):
                there = f"{root}/{key[:2]}/{key}"
                content = system.cat_file(f"{there}/{DIGESTS}")
                paths = {name: path_inside(folder, name) for name in json.loads(content)["files"]}
                (folder / DIGESTS).write_bytes(content)
                for name, path in paths.items():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(f"{there}/{name}", str(path))
                return store.receive(key, folder)
        finally:
            shutil.rmtree(folder.parents[1], ignore_errors=True)

    def push(self, key: str, store: Store) -> bool:
        """Send an entry; its digests go last, so that no half of it is fetched.

        Returns
        -------
        bool
            False when it is there already.

        Raises
        ------
        UserError
            When it cannot be sent.
        """
        if self.has(key):
            return False
        here = store.path(key)
        with self._open(f"sending {self.what} {key} to") as (system, root):
            there = f"{root}/{key[:2]}/{key}"
            names = json.loads((here / DIGESTS).read_text())["files"]
            paths = {name: path_inside(here, name) for name in names}
            if system.exists(f"{there}/{DIGESTS}"):  # of an entry that lacks what is needed
                system.rm_file(f"{there}/{DIGESTS}")
            for name, path in paths.items():
                self._put(system, path, f"{there}/{name}")
            draft = f"{there}/.{DIGESTS}.{secrets.token_hex(4)}"
            self._put(system, here / DIGESTS, draft)
            system.mv(draft, f"{there}/{DIGESTS}")
        return True

    def _put(self, system: Any, path: Path, there: str) -> None:
        if not self.url.startswith(OBJECT_STORES):  # which would make a bucket that is missing
            system.makedirs(there.rpartition("/")[0], exist_ok=True)
        system.put_file(str(path), there)
