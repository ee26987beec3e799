"""What a plan will take: time and disk, from what earlier jobs of each kind took on average."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from hbn_foundation.errors import count_of
from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.specs import BASE, FINETUNE
from hbn_foundation.experiments.store import METRICS, Store
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.progress import duration

GUESSED = {BASE: (30.0, 14_000_000.0), FINETUNE: (10.0, 60_000.0)}  # seconds, bytes
SECONDS_AROUND = 0.3  # of a worker, before and after what a job itself measures
SECONDS_TO_BEGIN = 10.0  # until workers are there and have imported what trainings need
MOST_READ = 200  # results that are looked into


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
    disk: float
    measured: int


def estimate(plan: Plan, stores: Stores, workers: int = 1) -> Estimate:
    """Estimate time and disk of a plan; jobs whose results are there take nothing.

    A job takes what those of its kind in the store took on average, whatever their parameters;
    without any it is a guess.
    """
    base, base_bytes, n_bases = mean_cost(stores.store(BASE))
    tuning, tuning_bytes, n_tunings = mean_cost(stores.store(FINETUNE))

    def busy(bases: int, tunings: int) -> float:
        """All workers work at once, but no fine-tuning begins before its base is there."""
        chain = base * bool(bases) + tuning * bool(tunings)
        return max((bases * base + tunings * tuning) / workers, chain)

    shared = busy(len(plan.bases), len(plan.finetunings))
    alone = busy(sum(s.base_hash is not None for s in plan.finetunings), len(plan.finetunings))
    left = missing(plan, stores)
    return Estimate(
        busy(*left) + SECONDS_TO_BEGIN * any(left),
        SECONDS_TO_BEGIN + alone,
        shared / alone if alone else math.nan,
        left[0] * base_bytes + left[1] * tuning_bytes,
        n_bases + n_tunings,
    )


def mean_cost(store: Store) -> tuple[float, float, int]:
    """Mean seconds and bytes of a store's jobs, and how many; a guess where it has none."""
    found = []
    for key in store.hashes()[:MOST_READ]:
        try:
            seconds = float(json.loads((store.path(key) / METRICS).read_text())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append((seconds + SECONDS_AROUND, store.size(key)))
    if not found:
        return (*GUESSED[store.what], 0)
    return fmean(row[0] for row in found), fmean(row[1] for row in found), len(found)


def missing(plan: Plan, stores: Stores) -> tuple[int, int]:
    """Count the bases and the fine-tunings without a result."""
    bases, tunings = (
        sum(not stores.store(spec.JOB).has(spec.hash) for spec in specs) for specs in plan
    )
    return bases, tunings


def in_words(plan: Plan, found: Estimate, stores: Stores, workers: int) -> str:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    folds = count_of(len({spec.target for spec in plan.finetunings}), "fold")
    bases_left, tunings_left = missing(plan, stores)
    lacking = tunings_left - missing(plan, replace(stores, needs={}))[1]
    basis = f"as {found.measured:,} earlier jobs took" if found.measured else "a guess"
    lines = [f"plan: {count_of(n_bases, 'base')} and {count_of(n_tuned, 'fine-tuning')} of {folds}"]
    if n_bases and shared:
        lines.append(
            f"reuse: each base serves {shared / n_bases:.3g} fine-tunings; trained alone they "
            f"would train {count_of(shared, 'base')}"
        )
    lines.append(
        f"kept from before: {count_of(n_bases - bases_left, 'base')}, "
        f"{count_of(n_tuned - tunings_left, 'fine-tuning')}"
    )
    if lacking:
        lines.append(f"made again for their weights: {count_of(lacking, 'fine-tuning')}")
    many = f"{workers} workers" if workers > 1 else "one worker"
    lines.append(f"time: about {duration(found.seconds)} with {many}, {basis}")
    if shared > n_bases:
        lines.append(
            f"sharing: all of it takes {found.ratio:.2f} times as long as if each fine-tuning "
            f"trained its own base ({duration(found.alone_seconds)})"
        )
    return "\n".join([*lines, f"disk: about {found.disk / 1e6:,.0f} MB"])
