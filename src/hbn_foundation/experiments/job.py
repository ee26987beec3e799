"""A job: one training or evaluation with a key, a folder and a result, and what becomes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hbn_foundation.training.supervision.link import Link

DONE, KEPT, HELD, FAILED, BLOCKED, MISSING = (
    "done", "kept", "held", "failed", "blocked", "base_missing"
)  # fmt: skip
OUT = "out"
"""Folder in that of a job whose files become its entry in the store."""
CHOICES = ("sweep.jobs.only", "sweep.jobs.only_bases", "sweep.jobs.skip_base_training")
"""Parameters that such a command replaces."""

_RUN: dict[str, Any] = {}


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
        `module:function`, called in a process of its own with a `RunContext` and `arguments`;
        leaves the files of the result in its `out`.
    arguments
        Keyword arguments; small, as they travel with the job.
    base
        The result that has to be there before; the target is given its folder.
    identity
        What `key` is the hash of, written beside the result while it is made.
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
    def entry(self) -> Entry:
        """The result."""
        return Entry(self.kind, self.key)

    @property
    def id(self) -> str:
        """Name of the job, of its folder and in messages."""
        return self.entry.id


@dataclass(frozen=True)
class RunContext:
    """What a target is given beside its arguments.

    Attributes
    ----------
    folder
        Of the run: checkpoints of epochs, `out`.
    run_id
        Name of the run in the metadata of checkpoints.
    device_plan
        `chosen` says where to train.
    base
        Folder of the base's result; None without one.
    link
        To the supervisor.
    """

    folder: Path
    run_id: str
    device_plan: dict[str, Any]
    base: Path | None
    link: Link

    @property
    def out(self) -> Path:
        """Folder of the files that become the result, made here."""
        folder = self.folder / OUT
        folder.mkdir(exist_ok=True)
        return folder


def run_target(
    job: Job, folder: Path, base: Path | None, device_plan: dict[str, Any], link: Link
) -> dict[str, Any]:
    """Call the target of a job; what the supervised child calls."""
    target = resolve_name(job.target)
    return dict(target(RunContext(folder, job.id, device_plan, base, link), **job.arguments))


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


def note_run(settings: Mapping[str, Any]) -> None:
    """Let the commands in messages have what the run of this process was given.

    Parameters
    ----------
    settings
        `env`, a name or None; `params`, values by dotted name; `load_versions`, by dataset.
    """
    _RUN.clear()
    _RUN.update(settings)


def rerun(name: str) -> str:
    """Write the command that carries out one job alone."""
    env = f" --env {_RUN['env']}" if _RUN.get("env") else ""
    read = [f"{key}:{value}" for key, value in _RUN.get("load_versions", {}).items()]
    versions = f" --load-versions {','.join(read)}" if read else ""
    given = {key: value for key, value in _RUN.get("params", {}).items() if key not in CHOICES}
    values = {key: v if isinstance(v, str) else json.dumps(v) for key, v in given.items()}
    params = ",".join(f"{key}={value}" for key, value in [*values.items(), (CHOICES[0], name)])
    return f'kedro run{env} --pipeline sweep{versions} --params "{params}"'
