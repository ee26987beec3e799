"""Carry jobs out: each after its base, wherever the parameters say.

What is done is on disk alone. An experiment that was killed is the same call again: only what is
missing runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.executors import Inline, OnDask, make_executor
from hbn_foundation.experiments.job import (
    BLOCKED,
    DONE,
    FAILED,
    HELD,
    KEPT,
    MISSING,
    Job,
    Outcome,
    rerun,
)
from hbn_foundation.experiments.live import Live
from hbn_foundation.experiments.params import EngineParams
from hbn_foundation.experiments.worker import Context
from hbn_foundation.progress import say

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_UNTIL_AGAIN = 1.0  # before trying a job again that another process holds
SHOWN = 30  # rows of the table of failures


def carry_out(
    jobs: Sequence[Job],
    context: Context,
    engine: EngineParams,
    name: str = "sweep",
    *,
    known: Mapping[str, Outcome] | None = None,
    executor: Inline | OnDask | None = None,
    tell: Callable[[Job], Any] | None = None,
) -> dict[str, Outcome]:
    """Carry out the jobs whose results are missing.

    Parameters
    ----------
    jobs
        In the order in which they are wanted, a base before those that need it.
    context
        What they share.
    engine
        Where they run.
    name
        Of the experiment, for the lines that say how far it is.
    known
        Outcomes, by id, of jobs that are not to be tried again.
    executor
        To be used, and left open, instead of what `engine` names.
    tell
        Called with each job that is done, to say what it has found.

    Returns
    -------
    dict
        What became of each job, by its id.

    Raises
    ------
    UserError
        When no worker can be started, or all are lost.
    TrainingStopped
        After SIGINT or SIGTERM.
    """
    live = Live(name, jobs, context.stores.work)
    by_id = {job.id: job for job in jobs}
    run = _Run(by_id, context, engine, live, dict(known or {}), set(known or {}), executor, tell)
    try:
        return run.to_end()
    finally:
        live.close()
        if run.executor is not None and executor is None:
            run.executor.close()


@dataclass
class _Run:
    """Jobs on their way; fields that are not described are parameters of `carry_out`."""

    jobs: Mapping[str, Job]
    context: Context
    engine: EngineParams
    live: Live
    outcomes: dict[str, Outcome]
    fixed: set[str]  # jobs that are not to be tried again
    executor: Inline | OnDask | None
    tell: Callable[[Job], Any] | None
    running: set[str] = field(default_factory=set)
    waiting: dict[str, list[Job]] = field(default_factory=dict)  # for a base that is under way
    later: list[tuple[float, Job]] = field(default_factory=list)  # moment to try a held job again
    retried: set[str] = field(default_factory=set)
    reported_held: bool = False

    def to_end(self) -> dict[str, Outcome]:
        for job in self.jobs.values():
            self._begin(job)
        while self.running or self.later:
            found = self.executor.next(SECONDS_BETWEEN_LOOKS) if self.executor else None
            if found is not None:
                self._ended(*found)
            for moment, job in list(self.later):
                if time.monotonic() >= moment:
                    self.later.remove((moment, job))
                    self._submit(job)
            self.live.show(self.outcomes, self.running)
        return {name: self.outcomes[name] for name in self.jobs}

    def _begin(self, job: Job) -> None:
        """Submit a job unless its result is there; where its base is under way, after that."""
        stores = self.context.stores
        base = self.outcomes.get(job.base.id) if job.base is not None else None
        if job.id in self.fixed:
            return
        if stores.get(job.kind, job.key) is not None:
            if job.base is None and not stores.sync.skip_sync:
                stores.send(job.kind, job.key)
            self.outcomes[job.id] = Outcome(KEPT)
        elif job.base is not None and job.base.id in self.under_way:
            self.waiting.setdefault(job.base.id, []).append(job)
        elif base is not None and base.status in (FAILED, BLOCKED):
            self._ended(job, Outcome(BLOCKED, f"its base {job.base.key} failed"))  # type: ignore[union-attr]
        else:
            self._submit(job)

    @property
    def under_way(self) -> set[str]:
        """Jobs that run, and those that another process has."""
        return self.running | {job.id for _, job in self.later}

    def _submit(self, job: Job) -> None:
        if self.executor is None:  # not before there is something to do
            self.executor = make_executor(self.engine, self.context)
        if not self.live.begun:
            self.live.begin(self.executor.workers)
        self.running.add(job.id)
        self.executor.submit(job)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Take note of a job that has ended, or put it off; begin those that wait for it."""
        self.running.discard(job.id)
        if outcome.status == HELD:
            if not self.reported_held:
                self.reported_held = True
                say(f"{job.id} waits: {outcome.what} holds it")
            self.later.append((time.monotonic() + SECONDS_UNTIL_AGAIN, job))
            return
        if outcome.status == MISSING:
            if self._train_base_again(job):
                return
            outcome = Outcome(BLOCKED, outcome.what, worker=outcome.worker)
        outcome = self._fetched(job, outcome)
        self.outcomes[job.id] = outcome
        if outcome.status == FAILED:
            why = outcome.what.partition("\n")[0]
            say(f"{job.id} failed: {why}")
        elif outcome.status == DONE and self.tell is not None:
            self.tell(job)
        for dependent in self.waiting.pop(job.id, []):
            self._begin(dependent)

    def _fetched(self, job: Job, outcome: Outcome) -> Outcome:
        """Bring what a worker elsewhere has sent to the common store."""
        remote = self.context.stores.remote(job.kind)
        if remote is None or outcome.status not in (DONE, KEPT):
            return outcome
        try:
            if self.context.stores.get(job.kind, job.key) is not None:
                return outcome
        except UserError as error:
            return Outcome(FAILED, str(error))
        what = f"{job.id} was published, but not to {remote.url}"
        return Outcome(FAILED, f"sync failed on worker {outcome.worker}: {what}")

    def _train_base_again(self, job: Job) -> bool:
        """Submit a base again that was damaged or removed meanwhile, once, and the job after it."""
        assert job.base is not None
        base = self.jobs.get(job.base.id)
        skip = self.context.stores.sync.skip_sync
        if base is None or base.id in self.fixed or job.id in self.retried or skip:
            return False
        self.retried.add(job.id)
        if base.id not in self.under_way:
            say(f"{base.id}: gone or damaged, it is trained again")
            self.outcomes.pop(base.id, None)
            self._submit(base)
        self.waiting.setdefault(base.id, []).append(job)
        return True


def as_report(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Outcomes as plain values, to be stored."""
    return {name: asdict(outcome) for name, outcome in outcomes.items()}


def check_reports(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that every job of some reports has a result.

    Raises
    ------
    UserError
        The table of those without: the reason, and the command that runs just that again.
    """
    failed = {name: row["what"] for name, row in reports.items() if row["status"] == FAILED}
    blocked = [row["what"] for row in reports.values() if row["status"] == BLOCKED]
    if not failed and not blocked:
        return
    lines = [f"{len(failed) + len(blocked):,} jobs have no result:"]
    for name, what in list(failed.items())[:SHOWN]:
        lines += [f"  failed   {name}: {what.splitlines()[0]}", f"           {rerun(name)}"]
    if len(failed) > SHOWN:
        lines.append(f"  … and {len(failed) - SHOWN:,} more failed")
    lines += [
        f"  blocked  {count:,} fine-tunings: {why}"
        for why, count in Counter(blocked).most_common(SHOWN)
    ]
    raise UserError("\n".join([*lines, "The same command runs all that is missing."]))
