"""Leases: who works on a result now, so that two runs do not train the same base.

A lease is a small file that its holder touches every few seconds. One whose process is gone, or
that nobody has touched for long, is free for others. Should two ever hold the same, both train and
the later result is thrown away: publishing is one rename.
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

from hbn_foundation.training.supervision.heartbeat import boot_id

SECONDS_BETWEEN_BEATS = 5.0
SECONDS_TO_EXPIRE = 60.0


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
    path: Path, beat: float = SECONDS_BETWEEN_BEATS, expires: float = SECONDS_TO_EXPIRE
) -> Lease | None:
    """Take a lease; None when somebody else holds it.

    Parameters
    ----------
    path
        The file; its folder is made.
    beat, expires
        Seconds between two touches, and without one until others may take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    for _ in range(2):
        try:
            with open(path, "x") as file:
                file.write(json.dumps({**_who_am_i(), "token": token}))
        except FileExistsError:
            if not _set_stale_aside(path, expires):
                return None
            continue
        return Lease(path, token, beat)
    return None


def holder(path: Path, expires: float = SECONDS_TO_EXPIRE) -> str | None:
    """Say who holds a lease; None when it is free."""
    found = _read(path)
    if not found or _is_stale(path, found, expires):
        return None
    return f"process {found.get('pid')} on {found.get('host')}"


def _set_stale_aside(path: Path, expires: float) -> bool:
    """Move a lease away that nobody holds any more; tell whether the name is free now."""
    seen = _read(path)
    if not path.exists():
        return True
    if not _is_stale(path, seen, expires):
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


def _is_stale(path: Path, found: dict[str, Any], expires: float) -> bool:
    if not found:  # its holder is about to write it, or was killed before
        return _age(path) > SECONDS_TO_EXPIRE
    if found.get("host") == socket.gethostname():
        if found.get("boot") != boot_id():
            return True
        return _started(int(found["pid"])) != found.get("started")
    return _age(path) > expires


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


def _who_am_i() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": boot_id(),
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def _started(pid: int) -> str | None:
    """When a process started, so that a number used again is told apart; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _started_without_proc(pid)
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _started_without_proc(pid: int) -> str | None:
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "unknown"
    return "unknown"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
