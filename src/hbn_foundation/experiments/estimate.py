"""What a plan will take: time and disk, from what earlier jobs of each kind took on average."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import fmean

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


def estimate(plan: Plan, stores: Stores, workers: int = 1) -> tuple[float, float, int]:
    """Estimate what is still to be done of a plan.

    A job takes what those of its kind in the store took on average, whatever their parameters;
    without any it is a guess.

    Returns
    -------
    seconds, disk : float
        Until all is done; bytes still to be written.
    measured : int
        How many earlier jobs these are from.
    """
    base, base_bytes, n_bases = mean_cost(stores.store(BASE))
    tuning, tuning_bytes, n_tunings = mean_cost(stores.store(FINETUNE))
    bases, tunings = missing(plan, stores)
    # all workers work at once, but no fine-tuning begins before its base is there
    chain = base * bool(bases) + tuning * bool(tunings)
    seconds = max((bases * base + tunings * tuning) / workers, chain)
    seconds += SECONDS_TO_BEGIN * bool(bases or tunings)
    return seconds, bases * base_bytes + tunings * tuning_bytes, n_bases + n_tunings


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


def in_words(plan: Plan, stores: Stores, workers: int) -> str:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    folds = count_of(len({spec.target for spec in plan.finetunings}), "fold")
    bases_left, tunings_left = missing(plan, stores)
    lacking = tunings_left - missing(plan, replace(stores, needs={}))[1]
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
    seconds, disk, measured = estimate(plan, stores, workers)
    basis = f"as {measured:,} earlier jobs took" if measured else "a guess"
    many = f"{workers} workers" if workers > 1 else "one worker"
    lines.append(f"time: about {duration(seconds)} with {many}, {basis}")
    return "\n".join([*lines, f"disk: about {disk / 1e6:,.0f} MB"])
