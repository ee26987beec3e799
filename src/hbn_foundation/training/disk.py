"""Is there room for the checkpoints? Asked before training, not in the night."""

from __future__ import annotations

import shutil
from pathlib import Path

from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision.run_folder import ASIDE

SPARE = 64 * 1024**2  # logs, and whatever else writes there


def bytes_needed(weights: int, state: int, keep_last: int) -> int:
    """Bytes of `keep_last` epochs, best, last, what is fitted before, and what is written beside.

    A checkpoint that is replaced is there until the new one is whole: one more epoch, and one more
    of those without a state.

    Parameters
    ----------
    weights
        Of a checkpoint without the state of training.
    state
        Of one with it, as large as it can become.
    keep_last
        Epochs kept.
    """
    return (keep_last + 1) * state + 4 * weights


def free_bytes(folder: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free


def check_space(folder: Path, weights: int, state: int, keep_last: int) -> None:
    """Check that the checkpoints of a training will fit on the disk.

    Parameters
    ----------
    folder
        Where they will lie; what lies there already is counted as theirs.
    weights, state, keep_last
        As for `bytes_needed`.

    Raises
    ------
    UserError
        When they will not.
    """
    there = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.parent.suffix != ASIDE
    )
    needed = bytes_needed(weights, state, keep_last) + SPARE - there
    free = free_bytes(folder)
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free and the checkpoints need "
            f"{needed / 1e6:,.0f} MB; free some space, or set trainer.work_dir or "
            "trainer.keep_last"
        )
