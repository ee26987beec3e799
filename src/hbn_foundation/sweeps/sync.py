"""Entries of a store sent and fetched by hash over fsspec, where workers share no file system."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
from dataclasses import dataclass
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import path_inside
from hbn_foundation.progress import say
from hbn_foundation.sweeps.store import DIGESTS, INCOMING, Store


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
        """Send an entry; its digests go last, so that nobody fetches half of it.

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
        who = self.worker or socket.gethostname()
        text = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"sync failed on worker {who}: {doing} {self.url}: {text}")
