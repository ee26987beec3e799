"""Carry a plan out: bases first, each fine-tuning as soon as its own base is published.

What is done is on disk alone. A sweep that was killed is the same command again: only what is
missing runs.
"""

from __future__ import annotations

import atexit
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.sweeps.data import put_data
from hbn_foundation.sweeps.executors import (
    Executor,
    Job,
    gpus_of_a_machine,
    make_executor,
    read_cluster,
)
from hbn_foundation.sweeps.jobs import base_not_found, plan_of, rerun
from hbn_foundation.sweeps.lease import SECONDS_TO_EXPIRE
from hbn_foundation.sweeps.live import Live
from hbn_foundation.sweeps.params import EngineParams, SweepRecipe
from hbn_foundation.sweeps.planner import Data, Plan
from hbn_foundation.sweeps.running import (
    BLOCKED,
    DONE,
    FAILED,
    HELD,
    KEPT,
    MISSING,
    Context,
    Outcome,
    Place,
)
from hbn_foundation.sweeps.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec
from hbn_foundation.training.supervision.params import SupervisionParams

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_UNTIL_AGAIN = 1.0  # before asking again for a job that somebody else works on
SHOWN = 30  # rows of the table of failures


class Sweep:
    """A plan on its way.

    Parameters
    ----------
    plan
        The jobs.
    context
        What they share.
    engine
        Where they run.
    skip_base_training
        Whether all bases are to be there already.
    executor
        To be used instead of what `engine` names.
    """

    def __init__(
        self,
        plan: Plan,
        context: Context,
        engine: EngineParams,
        skip_base_training: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.plan = plan
        self.context = context
        self.engine = engine
        self.skip_base_training = skip_base_training
        self.place = Place.of(context.stores)
        self.outcomes: dict[str, Outcome] = {}
        self.running: set[str] = set()
        self.dependents: dict[str, list[FinetuneSpec]] = {}
        self._later: list[tuple[float, Job]] = []
        self._executor = executor
        self._tried_again: set[str] = set()
        self._told_of_others = False
        self.closed = False
        self._live = Live(len(plan.bases), len(plan.finetunings), self.place.work)

    def run_bases(self, then_finetune: bool = True) -> None:
        """Train the bases that are missing.

        Parameters
        ----------
        then_finetune
            Whether fine-tunings may start meanwhile; `finish` waits for them.
        """
        bases = self.place.stores[BASE]
        if then_finetune:
            for spec in self.plan.finetunings:
                if spec.base_hash is not None:
                    self.dependents.setdefault(spec.base_hash, []).append(spec)
        for base in self.plan.bases:
            if self.place.take(BASE, base.hash) is not None:
                if not self.context.stores.skip_sync:
                    self.place.send(BASE, base.hash)
                self._note(base, Outcome(KEPT))
            elif self.skip_base_training:
                self._note(base, Outcome(FAILED, base_not_found(base.hash, bases.root)))
            else:
                self._submit(base)
        self._until(lambda: all(base.id in self.outcomes for base in self.plan.bases))

    def finish(self) -> None:
        """Carry out all fine-tunings, those that wait for no base of this plan included."""
        bases = self.place.stores[BASE]
        for spec in self.plan.finetunings:
            if spec.id in self.outcomes or spec.id in self.running:
                continue
            key = spec.base_hash
            of_plan = None if key is None else self.outcomes.get(f"{BASE}-{key}")
            if key is not None and of_plan is None and self.place.take(BASE, key) is None:
                self._block(spec, base_not_found(key, bases.root))
            elif of_plan is not None and of_plan.status == FAILED:
                self._block(spec, f"its base {key} failed")
            else:
                self._start(spec)
        self._until(lambda: all(spec.id in self.outcomes for spec in self.plan.finetunings))

    def close(self) -> None:
        """End workers and display."""
        self.closed = True
        self._live.close()
        if self._executor is not None:
            self._executor.close()
            self._executor = None
            for store in self.place.stores.values():  # workers that were ended could not do it
                store.free_leases(self.context.sweep)

    def failures(self) -> list[dict[str, Any]]:
        """List failed and blocked jobs with the command that runs just that again."""
        return failures_of({**self.report(BASE), **self.report(FINETUNE)})

    def check(self) -> None:
        """Make sure that every job has a result.

        Raises
        ------
        UserError
            The table of those without.
        """
        check_reports({**self.report(BASE), **self.report(FINETUNE)})

    def report(self, kind: str) -> dict[str, Any]:
        """Outcomes of the bases or the fine-tunings, as plain values."""
        return {
            name: {"status": o.status, "what": o.what, "seconds": round(o.seconds, 3),
                   "worker": o.worker}
            for name, o in self.outcomes.items() if name.startswith(kind)
        }  # fmt: skip

    def _until(self, finished: Callable[[], bool]) -> None:
        """Note what ends, until a condition holds."""
        try:
            while not finished():
                found = self._executor.next(SECONDS_BETWEEN_LOOKS) if self._executor else None
                if found is not None:
                    self._ended(*found)
                for due, job in list(self._later):
                    if time.monotonic() >= due:
                        self._later.remove((due, job))
                        self._submit(job)
                self._live.show(self.outcomes, self.running)
        except BaseException:
            self.close()
            raise
        self._live.show(self.outcomes, self.running, at_once=True)

    def _submit(self, job: Job) -> None:
        if self._executor is None:  # not before there is something to do
            self._executor = make_executor(self.engine, self.context)
            self._live.begin(self._executor.workers, self._executor.dashboard)
        self.running.add(job.id)
        self._executor.submit(job)

    def _start(self, spec: FinetuneSpec) -> None:
        """Submit a fine-tuning unless its result is there."""
        if spec.id in self.running or spec.id in self.outcomes:
            return
        if self.place.stores[FINETUNE].take(spec.hash) is not None:
            self._note(spec, Outcome(KEPT))
        else:
            self._submit(spec)

    def _block(self, spec: FinetuneSpec, why: str) -> None:
        """Give a fine-tuning up for want of its base, unless its result is there."""
        kept = self.place.take(FINETUNE, spec.hash) is not None
        self._note(spec, Outcome(KEPT) if kept else Outcome(BLOCKED, why))

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Take note of a job that has ended, or put it off."""
        self.running.discard(job.id)
        if outcome.status == HELD:
            if not self._told_of_others:
                self._told_of_others = True
                say(f"{job.id} waits: {outcome.what} has it; free when that is silent "
                               f"for {SECONDS_TO_EXPIRE:g} s")  # fmt: skip
            self._later.append((time.monotonic() + SECONDS_UNTIL_AGAIN, job))
        elif outcome.status == MISSING and isinstance(job, FinetuneSpec):
            self._base_missing(job, outcome)
        else:
            self._note(job, self._fetched(job, outcome))

    def _fetched(self, job: Job, outcome: Outcome) -> Outcome:
        """Bring what a worker elsewhere has sent to the common store."""
        kind = BASE if isinstance(job, BaseSpec) else FINETUNE
        if kind not in self.place.remotes or outcome.status not in (DONE, KEPT):
            return outcome
        try:
            found = self.place.take(kind, job.hash)
        except UserError as error:
            return Outcome(FAILED, str(error))
        if found is None:
            url = self.place.remotes[kind].url
            what = (
                f"sync failed on worker {outcome.worker}: {job.id} was published, but not to {url}"
            )
            return Outcome(FAILED, what)
        return outcome

    def _base_missing(self, job: FinetuneSpec, outcome: Outcome) -> None:
        """Train a base again that was damaged or removed meanwhile; once."""
        base = self.plan.base_of.get(str(job.base_hash))
        can = base is not None and not self.skip_base_training and job.id not in self._tried_again
        if base is None or not can or self.context.stores.skip_sync:
            self._note(job, Outcome(BLOCKED, outcome.what, worker=outcome.worker))
            return
        self._tried_again.add(job.id)
        self.dependents.setdefault(base.hash, []).append(job)
        if base.id not in self.running:
            say(f"{base.id}: gone or damaged, it is trained again")
            self.outcomes.pop(base.id, None)
            self._submit(base)

    def _note(self, job: Job, outcome: Outcome) -> None:
        """Record the end of a job; start or block those that wait for it."""
        self.outcomes[job.id] = outcome
        if outcome.status == FAILED:
            why = outcome.what.partition("\n")[0]
            say(f"{job.id} failed: {why}")
        if not isinstance(job, BaseSpec):
            return
        for spec in self.dependents.pop(job.hash, []):
            if outcome.status == FAILED:
                self._block(spec, f"its base {job.hash} failed")
            else:
                self._start(spec)


def counts(outcomes: Iterable[Outcome]) -> str:
    """Count outcomes in words: `12 done, 3 kept`."""
    found = Counter(outcome.status for outcome in outcomes)
    order = (DONE, KEPT, FAILED, BLOCKED)
    return ", ".join(f"{found[name]:,} {name}" for name in order if found[name]) or "none"


def failures_of(reports: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List failed and blocked jobs of reports, with the command that runs each again."""
    return [
        {"job": name, "status": row["status"], "what": row["what"], "again": rerun(name)}
        for name, row in reports.items()
        if row["status"] in (FAILED, BLOCKED)
    ]


def check_reports(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that every job of some reports has a result.

    Raises
    ------
    UserError
        The table of those without.
    """
    failures = failures_of(reports)
    if failures:
        raise UserError(failure_table(failures))


def failure_table(failures: list[dict[str, Any]]) -> str:
    """Write the table of what failed: the reason, and the command that runs just that again."""
    lines = [f"{len(failures):,} jobs have no result:"]
    failed = [row for row in failures if row["status"] == FAILED]
    blocked = [row for row in failures if row["status"] == BLOCKED]
    for row in failed[:SHOWN]:
        lines += [f"  failed   {row['job']}: {row['what'].splitlines()[0]}",
                  f"           {row['again']}"]  # fmt: skip
    if len(failed) > SHOWN:
        lines.append(f"  … and {len(failed) - SHOWN:,} more failed")
    reasons = Counter(row["what"] for row in blocked)
    lines += [
        f"  blocked  {count:,} fine-tunings: {why}" for why, count in reasons.most_common(SHOWN)
    ]
    lines.append("The same command runs all that is missing.")
    return "\n".join(lines)


_OPEN: dict[str, Sweep] = {}


def open_sweep(
    name: str,
    base_jobs: list[dict[str, Any]],
    finetune_jobs: list[dict[str, Any]],
    data: Data,
    device_plan: dict[str, Any],
    window: WindowParams,
    cleaning: CleaningParams,
    recipe: SweepRecipe,
    limits: SupervisionParams,
) -> Sweep:
    """Give the sweep of a run, begun by an earlier call in this process or now.

    So bases and fine-tunings, which are two steps of a pipeline, share workers: a fine-tuning
    need not wait for the last base.

    Parameters
    ----------
    name
        Of the run; one that was closed is opened anew.
    base_jobs, finetune_jobs
        Records of the plan.
    data
        What jobs are trained on.
    device_plan
        `chosen` says where.
    window, cleaning
        How the data was made.
    recipe, limits
        Parameters; one job alone runs in the foreground.
    """
    sweep = _OPEN.get(name)
    if sweep is not None and not sweep.closed:
        return sweep
    jobs, engine, stores = recipe.jobs, recipe.engine, recipe.store
    if jobs.only is not None:
        engine = EngineParams(
            engine="inline", threads=engine.threads, retries=engine.retries,
            job_start=engine.job_start,
        )  # fmt: skip
    place = put_data(data, Place.of(stores).work, window, cleaning)
    engine = read_cluster(engine)
    context = Context(
        data=place, stores=stores, limits=limits, retries=engine.retries, threads=engine.threads,
        job_start=engine.job_start, gpus=gpus_of_a_machine(engine),
        device_plan={**device_plan, "chosen": engine.device or device_plan["chosen"]},
    )  # fmt: skip
    plan = plan_of(base_jobs, finetune_jobs)
    sweep = Sweep(plan, context, engine, jobs.skip_base_training)
    _OPEN[name] = sweep
    atexit.register(sweep.close)
    return sweep
