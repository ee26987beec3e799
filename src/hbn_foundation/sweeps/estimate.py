"""What a plan will take: time and disk, from what was measured before or from plain assumptions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.signals.windows import window_length
from hbn_foundation.sweeps.planner import Data, Plan
from hbn_foundation.sweeps.specs import BASE, FINETUNE, FULL, BaseSpec, FinetuneSpec
from hbn_foundation.sweeps.store import METRICS, Store
from hbn_foundation.sweeps.study import TRAIN, roles

ASSUMED_SPEED = 300.0  # windows a second, of a default encoder on two cores
ASSUMED_START = 1.0  # seconds of a job besides its windows
ASSUMED_BYTES = {BASE: 14_000_000, FINETUNE: 60_000}
SECONDS_AROUND = 0.3  # of a worker, before and after what a job itself measures
SECONDS_TO_BEGIN = 10.0  # until workers are there and have imported what trainings need
SPREAD = 3.0
MOST_READ = 200  # results that are looked into


class Cost(NamedTuple):
    """Seconds of a job on one worker, for bases and for fine-tunings."""

    base: dict[str, float]
    finetuning: dict[str, float]


class Pace(NamedTuple):
    """How long jobs of a kind take.

    Attributes
    ----------
    fixed
        Seconds of a job, however few its windows are.
    window
        Seconds per window of each epoch.
    epochs
        Share of the planned epochs that early stopping leaves.
    """

    fixed: float = ASSUMED_START
    window: float = 1 / ASSUMED_SPEED
    epochs: float = 1.0

    def seconds(self, windows: float, epochs: int) -> float:
        """Give the seconds of a worker for a job."""
        return SECONDS_AROUND + self.fixed + self.window * windows * epochs * self.epochs


class Estimate(NamedTuple):
    """What a plan takes.

    Attributes
    ----------
    seconds
        Until all that is still to be done is done.
    alone_seconds
        Of the whole plan, were each fine-tuning to train its own base.
    ratio
        Of the whole plan: the time with shared bases over the time without, once workers are there.
    disk
        Bytes still to be written.
    measured
        How many earlier jobs of these stores the times are from.
    """

    seconds: float
    alone_seconds: float
    ratio: float
    disk: int
    measured: int


def estimate(
    plan: Plan, data: Data, bases: Store, results: Store, workers: int = 1
) -> tuple[Estimate, Cost]:
    """Estimate time and disk of a plan; jobs whose results are there take nothing.

    A job takes a fixed time and a time for each window. Both are fitted to the jobs of its kind
    that the stores hold, whatever their encoders; without any they are a guess.

    Parameters
    ----------
    plan
        The jobs.
    data
        Whose windows are counted.
    bases, results
        What is kept, and what it took.
    workers
        How many jobs run at once.
    """
    of_bases, base_bytes = measured(bases)
    of_tunings, tuned_bytes = measured(results)
    counts = {kind: _counts(data.windows_of(kind)) for kind in {base.kind for base in plan.bases}}
    cost = Cost(
        {b.hash: _base_seconds(b, counts[b.kind], pace_of(b.kind, of_bases)) for b in plan.bases},
        _finetuning_seconds(plan, data, {**of_bases, **of_tunings}),
    )
    bases_left = [base for base in plan.bases if not bases.has(base.hash)]
    left = [spec for spec in plan.finetunings if not results.has(spec.hash)]
    shared = busy_seconds(plan.bases, plan.finetunings, cost, workers)
    alone = busy_seconds(plan.bases, plan.finetunings, cost, workers, own_bases=True)
    missing = busy_seconds(bases_left, left, cost, workers)
    disk = len(bases_left) * (base_bytes or ASSUMED_BYTES[BASE])
    disk += len(left) * (tuned_bytes or ASSUMED_BYTES[FINETUNE])
    found = Estimate(
        SECONDS_TO_BEGIN * bool(missing) + missing,
        SECONDS_TO_BEGIN + alone,
        shared / alone if alone else math.nan,
        int(disk),
        sum(map(len, (*of_bases.values(), *of_tunings.values()))),
    )
    return found, cost


def busy_seconds(
    bases: Sequence[BaseSpec],
    finetunings: Sequence[FinetuneSpec],
    cost: Cost,
    workers: int,
    own_bases: bool = False,
) -> float:
    """Give the time that jobs take together: all workers busy, but no fine-tuning before its base.

    Parameters
    ----------
    bases, finetunings
        What is to be done.
    cost
        Seconds of each job.
    workers
        How many run at once.
    own_bases
        Whether each fine-tuning trains its own base.
    """
    if not bases and not finetunings:
        return 0.0
    first = {base.hash: cost.base[base.hash] for base in bases}
    chains = [first.get(str(s.base_hash), 0.0) + cost.finetuning[s.hash] for s in finetunings]
    work = sum(cost.finetuning[spec.hash] for spec in finetunings) + sum(first.values())
    if own_bases:
        work = sum(chains)
    return max(work / workers, *chains, *first.values())


def _counts(windows: pd.DataFrame) -> pd.Series:
    """Windows of each subject."""
    return windows["subject"].astype(str).value_counts()


def _base_seconds(base: BaseSpec, counts: Any, pace: Pace) -> float:
    windows = sum(int(counts.get(subject, 0)) for subject in base.train_subjects)
    return pace.seconds(windows, planned_epochs(base))


def planned_epochs(spec: BaseSpec | FinetuneSpec) -> int:
    """Most epochs that a job trains."""
    if isinstance(spec, FinetuneSpec):
        return spec.tuning.trainer.epochs
    return (spec.supervised or spec).trainer.epochs


def _finetuning_seconds(plan: Plan, data: Data, known: dict[str, list[Job]]) -> dict[str, float]:
    counts = _counts(data.labelled)
    early: dict[Any, int] = {}
    pace = pace_of(FINETUNE, known)
    sfreq, found = float(data.store.sfreq), {}
    base_of = plan.base_of
    for spec in plan.finetunings:
        key = (spec.target, spec.rules)
        if key not in early:
            n_samples = window_length(spec.window.seconds, sfreq)
            serves = roles(data.labelled, spec.target, spec.rules, sfreq, n_samples)
            early[key] = int((serves == TRAIN).sum())
        base = base_of.get(str(spec.base_hash))
        windows = windows_of_an_epoch(spec, early[key], base, counts)
        found[spec.hash] = pace.seconds(windows, planned_epochs(spec))
    return found


def windows_of_an_epoch(
    spec: FinetuneSpec, early: int, base: BaseSpec | None, counts: Any
) -> float:
    """Count the windows of an epoch; `early` of the target may be trained on."""
    if spec.mode == FULL and base is not None:
        others = sum(int(counts.get(subject, 0)) for subject in base.train_subjects)
        return others + early * spec.target_data_pct
    return max(1.0, early * spec.target_data_pct)


class Job(NamedTuple):
    """What a finished job took: its windows times its epochs, and seconds."""

    windows: float
    seconds: float
    epochs: float  # share of the planned ones


def measured(store: Store) -> tuple[dict[str, list[Job]], float | None]:
    """Read what jobs took, by their kind, and the median size of an entry in bytes."""
    jobs: dict[str, list[Job]] = {}
    sizes = []
    for key in store.hashes()[:MOST_READ]:
        try:
            metrics = json.loads((store.path(key) / METRICS).read_text())
            content = store.spec(key)
            spec: Any = (FinetuneSpec if "mode" in content else BaseSpec).model_validate(content)
            windows = metrics["windows"]["train"] + metrics["windows"].get("base", 0)
            share = metrics["epochs"] / planned_epochs(spec)
            job = Job(windows * metrics["epochs"], float(metrics["seconds"]), share)
        except (OSError, ValueError, KeyError, TypeError, UserError):
            continue
        sizes.append(store.size(key))
        if math.isfinite(job.seconds) and job.seconds > 0 and job.windows > 0:
            jobs.setdefault(content.get("kind", FINETUNE), []).append(job)
    return jobs, float(np.median(sizes)) if sizes else None


def pace_of(kind: str, known: dict[str, list[Job]]) -> Pace:
    """Fit the pace of one kind of base, or of fine-tunings, to their own jobs, else to all."""
    jobs = known.get(kind) or [job for rows in known.values() for job in rows]
    if not jobs:
        return Pace()
    windows, seconds, shares = np.array(jobs, dtype=float).T
    if windows.max() < SPREAD * windows.min():  # too much alike to tell one time from the other
        fixed = min(ASSUMED_START, seconds.mean() / 2)
        slope = (seconds.mean() - fixed) / windows.mean()
    else:
        from scipy.optimize import nnls

        scale = windows.max()
        (fixed, slope), _ = nnls(np.column_stack([np.ones(len(jobs)), windows / scale]), seconds)
        slope /= scale
    return Pace(float(fixed), float(slope), float(shares.mean()))


def in_words(plan: Plan, found: Estimate, bases: Store, results: Store, workers: int) -> list[str]:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    lines = [
        f"plan: {n_bases:,} bases and {n_tuned:,} fine-tunings "
        f"({plan.folds} folds, {plan.setups} set-up{'s' * (plan.setups != 1)} of the base)"
    ]
    if n_bases and shared:
        lines.append(
            f"reuse: each base serves {shared / n_bases:.3g} fine-tunings; trained alone they "
            f"would train {shared:,} bases"
        )
    kept = sum(map(bases.has, (base.hash for base in plan.bases)))
    done = sum(map(results.has, (spec.hash for spec in plan.finetunings)))
    lines.append(f"kept from before: {kept:,} bases, {done:,} fine-tunings")
    basis = "a guess, nothing is measured yet"
    if found.measured:
        basis = f"as {found.measured:,} earlier jobs took"
    many = f"{workers} workers" if workers > 1 else "one worker"
    lines.append(f"time: about {duration(found.seconds)} with {many}, {basis}")
    if shared > n_bases:
        lines.append(
            f"sharing: all of it takes {found.ratio:.2f} times as long as if each fine-tuning "
            f"trained its own base ({duration(found.alone_seconds)})"
        )
    lines.append(f"disk: about {found.disk / 1e6:,.0f} MB")
    return lines


def duration(seconds: float) -> str:
    """Write a time as a person reads it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} days"
