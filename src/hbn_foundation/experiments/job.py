"""A job: one training or evaluation with a key, a folder and a result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

DONE, KEPT, HELD, FAILED, BLOCKED, MISSING = (
    "done", "kept", "held", "failed", "blocked", "base_missing"
)  # fmt: skip
OUT = "out"
"""Folder in that of a job whose files become its entry in the store."""


class Entry(NamedTuple):
    """A result in a store, whether it is there or not."""

    kind: str
    key: str

    @property
    def id(self) -> str:
        """Name for messages and folders; no number for a command line, as a bare hash may be."""
        return f"{self.kind}-{self.key}"


@dataclass(frozen=True)
class Job:
    """Everything that is needed to make one result, ready to be sent to another process.

    Attributes
    ----------
    kind, key
        The store of the result, and the hash of all that the result depends on.
    target
        `module:function`, called in a process of its own with `arguments` and `folder`, `run_id`,
        `link`, `device_plan`, `threads`, `base`; leaves the files of the result in `OUT`.
    arguments
        Keyword arguments; small, as they travel with the job.
    base
        The result that has to be there before; the target is given its folder.
    identity
        What `key` is the hash of, for whoever reads the folder.
    batch_size
        Windows of a batch, halved where memory is short.
    seconds
        Longest time, over all restarts.
    """

    kind: str
    key: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    base: Entry | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 1
    seconds: float = math.inf

    @property
    def id(self) -> str:
        """Name of the job, of its folder and in messages."""
        return Entry(self.kind, self.key).id


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    status
        done, kept (was there), held (another process works on it), failed, blocked (by its base),
        base_missing.
    what
        The reason, its first line short.
    seconds
        From its start on the worker to its entry in the store.
    worker
        Name of the worker that carried it out.
    """

    status: str
    what: str = ""
    seconds: float = 0.0
    worker: str = ""


def count_outcomes(outcomes: Iterable[Outcome]) -> str:
    """Count outcomes in words: `12 done, 3 kept`."""
    found = [outcome.status for outcome in outcomes]
    order = (DONE, KEPT, FAILED, BLOCKED)
    return ", ".join(f"{found.count(name):,} {name}" for name in order if name in found) or "none"
