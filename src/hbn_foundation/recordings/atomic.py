"""Write files so that a crash or a full disk loses nothing that was there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from hbn_foundation.errors import UserError


@contextlib.contextmanager
def renamed_when_done(path: Path, bytes_needed: int | None = None) -> Iterator[Path]:
    """Give a temporary name to write to, renamed to `path` when the block ends well.

    Parameters
    ----------
    path
        The final name. Its folder is made. The temporary name lies in the same folder.
    bytes_needed
        How much is being written, for the message.

    Raises
    ------
    UserError
        The disk is full (or a quota reached). Files written before stay as they are.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with full_disk_named(path, bytes_needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


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
    number of an error.
    """
    if error.errno is None:
        return re.search(r"\d+ requested and \d+ written", str(error)) is not None
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
