"""Metrics name the checkpoint that they are of, so that no report mixes two."""

from __future__ import annotations

from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.supervision.run_folder import DIGESTS, WEIGHTS

KEY = "checkpoint"


def with_identity(metrics: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Add run and digest of the checkpoint to its metrics."""
    return {**metrics, KEY: _identity(checkpoint)}


def check_identity(metrics: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Make sure that metrics are of a checkpoint; those that name none are not checked.

    Raises
    ------
    UserError
        When they are of another one.
    """
    there, here = metrics.get(KEY), _identity(checkpoint)
    if there is not None and there != here:
        raise UserError(
            f"metrics: they are of the checkpoint of the run {there['run']}, found that of "
            f"{here['run']}; give both the same run by --load-versions, or evaluate anew"
        )


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    metadata = checkpoint.metadata
    return {"run": metadata.get("run_id"), "digest": metadata.get(DIGESTS[WEIGHTS])}
