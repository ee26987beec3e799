"""Leases: who works on a result now, so that two runs do not train the same base.

A lease is a small file that its holder touches every few seconds. One that stays as it is for
longer, by the monotonic clock of the process that wants it, is free: names of hosts, numbers of
processes and the clocks of machines say nothing, since containers share the former and machines
differ in the latter. Should two ever hold the same, both train and the later result is thrown
away: publishing is one rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_BEATS = 5.0
SECONDS_TO_EXPIRE = 30.0

_SEEN: dict[Path, tuple[Any, float]] = {}  # how a lease was, and since when, to this process


class Lease:
    """A lease that this process holds, until `release`.

    Parameters
    ----------
    path
        The file.
    token
        Tells this lease from others of the same name.
    beat
        Seconds between two touches.
    """

    def __init__(self, path: Path, token: str, beat: float) -> None:
        self.path = path
        self.token = token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, args=(beat,), daemon=True)
        self._thread.start()

    def _keep(self, beat: float) -> None:
        while not self._ended.wait(beat):
            if _read(self.path).get("token", self.token) != self.token:
                return  # somebody took it over, after a long pause of this process
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Let others have it."""
        self._ended.set()
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(
    path: Path,
    owner: str = "",
    beat: float = SECONDS_BETWEEN_BEATS,
    expires: float = SECONDS_TO_EXPIRE,
) -> Lease | None:
    """Take a lease; None when another process holds it, or it was not watched for long enough.

    Parameters
    ----------
    path
        The file; its folder is made.
    owner
        Name of what several processes work for, and which gives each name to one of them at a
        time: the lease of a process that died is free at once for the others.
    beat, expires
        Seconds between two touches, and without one until others may take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "owner": owner, "token": token}
    for _ in range(2):
        try:
            with open(path, "x") as file:
                file.write(json.dumps(me))
        except FileExistsError:
            if not _set_stale_aside(path, owner, expires):
                return None
            continue
        return Lease(path, token, beat)
    return None


def holder(path: Path, expires: float = SECONDS_TO_EXPIRE) -> str | None:
    """Say who holds a lease, by its age in the clock of the file system; None when it is free."""
    found = _read(path)
    if _age(path) > expires:
        return None
    return f"process {found.get('pid')} on {found.get('host')}"


def free(folder: Path, owner: str) -> None:
    """Free the leases in a folder that an owner's processes held, all of which have ended."""
    for path in folder.glob("*.json"):
        if _read(path).get("owner") == owner:
            path.unlink(missing_ok=True)


def _set_stale_aside(path: Path, owner: str, expires: float) -> bool:
    """Move a lease away that nobody holds any more; tell whether the name is free now."""
    seen = _read(path)
    if not path.exists():
        return True
    if not (owner and seen.get("owner") == owner) and not _is_stale(path, expires):
        return False
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.stale")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another one was faster
        return True
    if _read(aside).get("token") != seen.get("token"):  # and has taken it already: give it back
        with contextlib.suppress(OSError):
            os.link(aside, path)
        aside.unlink(missing_ok=True)
        return False
    aside.unlink(missing_ok=True)
    return True


def _is_stale(path: Path, expires: float) -> bool:
    """Tell whether this process has seen no touch for long enough."""
    now = time.monotonic()
    try:
        with open(path) as file:  # what is opened is as it is on the server, not as cached here
            state = (os.fstat(file.fileno()).st_mtime_ns, file.read())
    except FileNotFoundError:
        return True
    before, since = _SEEN.get(path, (None, now))
    if state != before:
        _SEEN[path] = (state, now)
        return expires <= 0
    return now - since >= expires


def _age(path: Path) -> float:
    """Seconds since the last touch, by the clock of the file system, which hosts share."""
    probe = path.with_name(f".clock.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    except OSError:
        return time.time() - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
