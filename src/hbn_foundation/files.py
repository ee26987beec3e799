"""Write files so that a crash or a full disk loses nothing that was there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from hbn_foundation.errors import UserError

OLD = ".old"
"""Ending of a directory's former content until the new one has its name."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def renamed_when_done(path: Path, bytes_needed: int | None = None) -> Iterator[Path]:
    """Give a temporary name for a file or folder, renamed to `path` when the block ends well.

    Parameters
    ----------
    path
        The final name. Its folder is made. The temporary name lies in the same folder. A folder of
        this name is replaced, and stays as it was when that fails.
    bytes_needed
        How much is being written, for the message.

    Raises
    ------
    UserError
        The disk is full (or a quota reached). Files written before stay as they are.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    old = temporary.with_name(f"{temporary.name}{OLD}")
    with full_disk_named(path, bytes_needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if path.is_dir():  # another one cannot take its place in one step
                path.rename(old)
            temporary.replace(path)
            if path.is_dir():
                sync(path.parent)
        finally:
            if old.is_dir() and not path.exists():
                old.rename(path)
            for folder in (temporary, old):
                shutil.rmtree(folder, ignore_errors=True)
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write a JSON file that is whole or not there."""
    with renamed_when_done(path) as temporary:
        temporary.write_text(json.dumps(content))


@contextlib.contextmanager
def full_disk_named(path: Path, bytes_needed: int | None = None) -> Iterator[None]:
    """Turn the error of a full disk into one line with the path and what is needed."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        need = f", {bytes_needed:,} bytes needed" if bytes_needed else ""
        raise UserError(
            f"{path}: disk full{need}; free some space or choose another folder and run again: "
            "what is written already is kept"
        ) from error


def is_full_disk(error: OSError) -> bool:
    """Tell whether an error says that nothing more can be written.

    NumPy's `tofile`, by which EDF files are written, counts what it could not write and gives no
    number of an error; `shutil` puts the numbers of several into a text.
    """
    if error.errno is not None:
        return error.errno in FULL_DISK
    told = r"\d+ requested and \d+ written|\[Errno ({})\]".format("|".join(map(str, FULL_DISK)))
    return re.search(told, str(error)) is not None


def path_inside(folder: Path, name: str) -> Path:
    """Path of a file in a folder, by a name from elsewhere, such as a remote listing.

    Raises
    ------
    UserError
        The name leads out of the folder: by ``..``, as an absolute name, by a drive's letter or
        by a link that is there.
    """
    # on Windows a backslash separates folders, too
    parts = name.replace("\\", "/").split("/")
    plain = not {"", ".", ".."} & set(parts) and "\\" not in name and "\0" not in name
    if not plain or PureWindowsPath(name).anchor:
        raise UserError(f"{name!r}: expected the name of a file in {folder}; nothing is written")
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: leads out of {folder} by a link; nothing is written")
    return path


def write_directory(directory: Path, files: dict[str, bytes]) -> None:
    """Write files into a directory that appears whole or not at all, and is then on the disk.

    Parameters
    ----------
    directory
        Replaced when it exists.
    files
        Contents by name.

    Raises
    ------
    UserError
        The disk is full.
    """
    with renamed_when_done(directory, sum(map(len, files.values()))) as temporary:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
            sync(temporary / name)
        sync(temporary)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
