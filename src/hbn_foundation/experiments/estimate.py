"""What a plan will take: time and disk, from what earlier jobs of each kind took on average."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.specs import BASE, FINETUNE
from hbn_foundation.experiments.store import METRICS, Store
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.progress import duration

GUESSED = {BASE: (30.0, 14_000_000.0), FINETUNE: (10.0, 60_000.0)}  # seconds, bytes
SECONDS_AROUND = 0.3  # of a worker, before and after what a job itself measures
SECONDS_TO_BEGIN = 10.0  # until workers are there and have imported what trainings need
MOST_READ = 200  # results that are looked into


class Cost(NamedTuple):
    """Mean seconds and bytes of a job, and how many were measured."""

    seconds: float
    bytes: float
    measured: int


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
    costs = {kind: mean_cost(stores.store(kind)) for kind in (BASE, FINETUNE)}
    base, tuning = (costs[kind].seconds for kind in (BASE, FINETUNE))
    left = _missing(plan, stores)

    def busy(n_bases: int, n_tunings: int) -> float:
        """All workers work at once, but no fine-tuning begins before its base is there."""
        chain = base * bool(n_bases) + tuning * bool(n_tunings)
        return max((n_bases * base + n_tunings * tuning) / workers, chain)

    shared = busy(len(plan.bases), len(plan.finetunings))
    alone = busy(sum(s.base_hash is not None for s in plan.finetunings), len(plan.finetunings))
    missing = busy(left[BASE], left[FINETUNE])
    return Estimate(
        SECONDS_TO_BEGIN * bool(missing) + missing,
        SECONDS_TO_BEGIN + alone,
        shared / alone if alone else math.nan,
        sum(count * costs[kind].bytes for kind, count in left.items()),
        sum(cost.measured for cost in costs.values()),
    )


def mean_cost(store: Store) -> Cost:
    """Average what the jobs of a store took; the guess for its kind where it has none."""
    seconds, sizes = [], []
    for key in store.hashes()[:MOST_READ]:
        try:
            metrics: Mapping[str, Any] = json.loads((store.path(key) / METRICS).read_text())
            seconds.append(float(metrics["seconds"]) + SECONDS_AROUND)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        sizes.append(store.size(key))
    if not seconds:
        return Cost(*GUESSED[store.what], measured=0)
    return Cost(fmean(seconds), fmean(sizes), len(seconds))


def in_words(plan: Plan, found: Estimate, stores: Stores, workers: int) -> str:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    folds = len({spec.target for spec in plan.finetunings})
    lines = [f"plan: {n_bases:,} bases and {n_tuned:,} fine-tunings of {count_of(folds, 'fold')}"]
    if n_bases and shared:
        lines.append(
            f"reuse: each base serves {shared / n_bases:.3g} fine-tunings; trained alone they "
            f"would train {shared:,} bases"
        )
    left = _missing(plan, stores)
    lines.append(
        f"kept from before: {n_bases - left[BASE]:,} bases, "
        f"{n_tuned - left[FINETUNE]:,} fine-tunings"
    )
    lacking = left[FINETUNE] - _missing(plan, replace(stores, needs={}))[FINETUNE]
    if lacking:
        lines.append(f"{lacking:,} fine-tunings are without weights and are made again")
    basis = f"as {found.measured:,} earlier jobs took" if found.measured else "a guess"
    many = f"{workers} workers" if workers > 1 else "one worker"
    lines.append(f"time: about {duration(found.seconds)} with {many}, {basis}")
    if shared > n_bases:
        lines.append(
            f"sharing: all of it takes {found.ratio:.2f} times as long as if each fine-tuning "
            f"trained its own base ({duration(found.alone_seconds)})"
        )
    lines.append(f"disk: about {found.disk / 1e6:,.0f} MB")
    return "\n".join(lines)


def _missing(plan: Plan, stores: Stores) -> dict[str, int]:
    """Count the jobs without a result."""
    bases, results = stores.store(BASE), stores.store(FINETUNE)
    return {
        BASE: sum(not bases.has(base.hash) for base in plan.bases),
        FINETUNE: sum(not results.has(spec.hash) for spec in plan.finetunings),
    }
