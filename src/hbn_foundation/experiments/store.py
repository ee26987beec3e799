"""A content-addressed store: `<root>/<aa>/<hash>/`, each entry whole or not there.

What is in an entry is listed, with digests, in a file that is written last; an entry appears by
one rename. It is read only when all digests match; one that is damaged is put into quarantine.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, path_inside, sync
from hbn_foundation.progress import say

DIGESTS, SPEC, METRICS, SCORES = "digests.json", "spec.json", "metrics.json", "scores.json"
QUARANTINE, LOCKS, INCOMING = "quarantine", "locks", "incoming"
HASH = re.compile(r"[0-9a-f]{16}")
SECONDS_OF_LEFTOVERS = 24 * 3600.0


@dataclass(frozen=True)
class Store:
    """Results by the hash of what they depend on.

    Attributes
    ----------
    root
        The folder.
    what
        One word for an entry, for messages.
    needs
        File or folder without which an entry does not count as there; it is made again, and
        takes the place of the one without.
    """

    root: Path
    what: str = "base"
    needs: str = ""

    def path(self, key: str) -> Path:
        """Give the folder of an entry, whether it is there or not."""
        return self.root / key[:2] / key

    def has(self, key: str) -> bool:
        """Tell whether an entry is there and complete; its digests are not compared."""
        folder = self.path(key)
        return (folder / DIGESTS).is_file() and (folder / self.needs).exists()

    def get(self, key: str) -> Path | None:
        """Give the folder of an entry whose digests match; a damaged one goes into quarantine."""
        if not self.path(key).is_dir():
            return None
        problem = self.damage(key)
        if problem is None:
            return self.path(key) if self.has(key) else None
        self.quarantine(key, problem)
        return None

    def damage(self, key: str) -> str | None:
        """Say what is wrong with an entry; None when it is whole."""
        folder = self.path(key)
        try:
            record = json.loads((folder / DIGESTS).read_text())
            files = dict(record["files"])
            named = record["hash"]
        except FileNotFoundError:
            return f"{DIGESTS} is missing"
        except (ValueError, KeyError, TypeError):
            return f"{DIGESTS} is damaged"
        if named != key:
            return f"{DIGESTS} is of {named}"
        for name, expected in sorted(files.items()):
            try:
                found = _digest(path_inside(folder, name))
            except UserError:
                return f"{DIGESTS} names {name!r}, which is not in its folder"
            except OSError:
                return f"{name} is missing"
            if found != expected:
                return f"{name} is damaged, its digest differs"
        return None

    def quarantine(self, key: str, why: str) -> Path | None:
        """Move an entry out of the way and keep it; None when another process did."""
        aside = self.root / QUARANTINE / f"{key}.{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.path(key).rename(aside)
        except FileNotFoundError:
            return None
        (aside / "why.txt").write_text(f"{why}\n")
        say(f"{self.what} {key}: {why}; put into {aside}")
        return aside

    def publish(self, key: str, folder: Path) -> bool:
        """Make a prepared folder the entry of a hash; the folder is used up.

        Where it cannot be written, as on a full disk, the folder stays as it is.

        Parameters
        ----------
        key
            The hash.
        folder
            All files of the entry, without the digests.

        Returns
        -------
        bool
            False when another process had published meanwhile: its entry stays.
        """
        incoming = self.root / INCOMING / f"{key}.{secrets.token_hex(4)}"
        with full_disk_named(self.path(key)):
            incoming.parent.mkdir(parents=True, exist_ok=True)
            self.path(key).parent.mkdir(parents=True, exist_ok=True)
            self._write_digests(key, folder)
            try:
                shutil.move(folder, incoming)  # a rename where it is the same disk
                return self._put(key, incoming)
            except BaseException:
                if not folder.exists():  # what took hours to train is not lost with the write
                    shutil.move(incoming, folder)
                raise
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    def _write_digests(self, key: str, folder: Path) -> None:
        """Write what is in a folder into it, all of it durable."""
        (folder / DIGESTS).unlink(missing_ok=True)  # of an attempt that failed
        names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        digests = {name.as_posix(): _digest(folder / name) for name in names}
        for name in names:
            sync(folder / name)
        (folder / DIGESTS).write_text(json.dumps({"hash": key, "files": digests}, indent=1))
        sync(folder / DIGESTS)

    def receive(self, key: str, folder: Path) -> str:
        """Make a folder `<aa>/<hash>` from another store an entry; say what is wrong with it."""
        problem = Store(folder.parent.parent, self.what).damage(key)
        if problem is None:
            self._put(key, folder)
        return problem or ""

    def _put(self, key: str, folder: Path) -> bool:
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            if self.has(key):
                return False
            try:
                folder.rename(final)
            except OSError:  # a folder is there: complete by now, or left by something else
                if (final / DIGESTS).is_file() and not self.has(key):
                    self.remove(final)
                elif not self.has(key):
                    self.quarantine(key, f"{DIGESTS} is missing")
                continue
            sync(final.parent)
            return True
        return False

    def spec(self, key: str) -> dict[str, Any]:
        """Read the description of an entry's job."""
        return dict(json.loads((self.path(key) / SPEC).read_text()))

    def hashes(self) -> list[str]:
        """Hashes of all complete entries, sorted."""
        found = (path.parent.name for path in self.root.glob(f"??/*/{DIGESTS}"))
        return sorted(name for name in found if HASH.fullmatch(name))

    def find(self, prefix: str) -> str:
        """Complete a hash from its first digits.

        Raises
        ------
        UserError
            When none or several begin so.
        """
        return find_key(self.hashes(), prefix, self.what, self.root)

    def lease(self, key: str) -> filelock.BaseFileLock | None:
        """Lock an entry for as long as a job works on it; None when another process does.

        The system frees it when this process ends, however it does.
        """
        path = self.root / LOCKS / key
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return None
        return lock

    def held(self, key: str) -> bool:
        """Tell whether a process works on an entry."""
        if not (self.root / LOCKS / key).is_file():
            return False
        lock = self.lease(key)
        if lock is not None:
            lock.release()
        return lock is None

    def size(self, key: str) -> int:
        """Bytes of an entry."""
        return sum(path.stat().st_size for path in self.path(key).rglob("*") if path.is_file())

    def leftovers(self, older_than: float = SECONDS_OF_LEFTOVERS) -> Iterator[Path]:
        """Yield what is not needed: quarantine, unfinished writes, entries without digests."""
        yield from (self.root / QUARANTINE).glob("*")
        since = time.time() - older_than
        for path in [*(self.root / INCOMING).glob("*"), *self.root.glob("??/*")]:
            if path.stat().st_mtime < since and not (path / DIGESTS).is_file():
                yield path

    def remove(self, path: Path) -> None:
        """Remove an entry or a leftover: renamed first, so that no half of it is read."""
        aside = self.root / INCOMING / f"removed.{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def find_key(keys: Iterable[str], prefix: str, what: str, where: object) -> str:
    """Complete a hash, or the name of a job, from its first digits.

    Raises
    ------
    UserError
        When none or several begin so.
    """
    found = [key for key in keys if key.startswith(prefix.removeprefix(f"{what}-"))]
    if len(found) != 1:
        several = f"{len(found)} begin so" if found else "there is none"
        raise UserError(f"{what} {prefix}: {several} in {where}")
    return found[0]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
