"""What a plan will take: time and disk, from what was measured before or from plain assumptions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hbn_foundation.signals.windows import window_length
from hbn_foundation.sweeps.planner import Data, Plan
from hbn_foundation.sweeps.specs import FULL, BaseSpec, FinetuneSpec
from hbn_foundation.sweeps.store import METRICS, Store
from hbn_foundation.sweeps.study import TRAIN, roles

ASSUMED_SPEED = 300.0  # windows a second, of a default encoder on two cores
ASSUMED_START = 1.0  # seconds around a job
ASSUMED_BYTES = {"base": 14_000_000, "finetuning": 60_000}
MOST_READ = 50  # results that are looked into


class Cost(NamedTuple):
    """Seconds of a job on one worker, for bases and for fine-tunings."""

    base: dict[str, float]
    finetuning: dict[str, float]


class Estimate(NamedTuple):
    """What a plan takes.

    Attributes
    ----------
    seconds
        Of what is still to be done, on all workers together.
    alone_seconds
        Were each fine-tuning to train its own base.
    ratio
        Of the whole plan: the time with shared bases over the time without.
    disk
        Bytes still to be written.
    measured
        Whether the speed is from earlier jobs of this store.
    """

    seconds: float
    alone_seconds: float
    ratio: float
    disk: int
    measured: bool


def estimate(
    plan: Plan, data: Data, bases: Store, results: Store, workers: int = 1
) -> tuple[Estimate, Cost]:
    """Estimate time and disk of a plan; jobs whose results are there take nothing.

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
    base_speed, base_bytes = measured(bases)
    tuned_speed, tuned_bytes = measured(results)
    counts = data.windows["subject"].astype(str).value_counts()
    cost = Cost(
        {b.hash: base_seconds(b, counts, base_speed or ASSUMED_SPEED) for b in plan.bases},
        _finetuning_seconds(plan, data, counts, tuned_speed or base_speed or ASSUMED_SPEED),
    )
    to_train = [base.hash for base in plan.bases if not bases.has(base.hash)]
    to_tune = [spec.hash for spec in plan.finetunings if not results.has(spec.hash)]
    left = sum(cost.base[key] for key in to_train) + sum(cost.finetuning[key] for key in to_tune)
    shared, alone = totals(plan, cost)
    disk = len(to_train) * (base_bytes or ASSUMED_BYTES["base"])
    disk += len(to_tune) * (tuned_bytes or ASSUMED_BYTES["finetuning"])
    found = Estimate(
        left / workers, alone / workers, shared / alone if alone else math.nan, int(disk),
        base_speed is not None or tuned_speed is not None,
    )  # fmt: skip
    return found, cost


def totals(plan: Plan, cost: Cost) -> tuple[float, float]:
    """Seconds of all jobs with shared bases, and were each fine-tuning to train its own."""
    tuning = sum(cost.finetuning[spec.hash] for spec in plan.finetunings)
    shared = tuning + sum(cost.base[base.hash] for base in plan.bases)
    alone = tuning + sum(
        cost.base.get(str(spec.base_hash), 0.0) for spec in plan.finetunings if spec.base_hash
    )
    return shared, alone


def base_seconds(base: BaseSpec, counts: Any, speed: float) -> float:
    """Seconds of a base: windows times epochs over speed."""
    windows = sum(int(counts.get(subject, 0)) for subject in base.train_subjects)
    trainer = base.supervised.trainer if base.supervised is not None else base.trainer
    return ASSUMED_START + windows * trainer.epochs / speed


def _finetuning_seconds(plan: Plan, data: Data, counts: Any, speed: float) -> dict[str, float]:
    early: dict[Any, int] = {}
    sfreq, found = float(data.store.sfreq), {}
    base_of = plan.base_of
    for spec in plan.finetunings:
        key = (spec.target, spec.rules)
        if key not in early:
            n_samples = window_length(spec.window.seconds, sfreq)
            serves = roles(data.labelled, spec.target, spec.rules, sfreq, n_samples)
            early[key] = int((serves == TRAIN).sum())
        base = base_of.get(str(spec.base_hash))
        windows = steps_windows(spec, early[key], base, counts)
        found[spec.hash] = ASSUMED_START + windows * spec.tuning.trainer.epochs / speed
    return found


def steps_windows(spec: FinetuneSpec, early: int, base: BaseSpec | None, counts: Any) -> float:
    """Windows of an epoch."""
    if spec.mode == FULL and base is not None:
        others = sum(int(counts.get(subject, 0)) for subject in base.train_subjects)
        return others + early * spec.target_data_pct
    return max(1.0, early * spec.target_data_pct)


def measured(store: Store) -> tuple[float | None, float | None]:
    """Median speed (windows a second) and size (bytes) of a store's entries; None without any."""
    speeds, sizes = [], []
    keys: Sequence[str] = store.hashes()
    for key in keys[:MOST_READ]:
        sizes.append(store.size(key))
        try:
            metrics = json.loads((store.path(key) / METRICS).read_text())
            speeds.append(float(metrics["windows_per_second"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    speeds = [speed for speed in speeds if math.isfinite(speed) and speed > 0]
    return (
        float(np.median(speeds)) if speeds else None,
        float(np.median(sizes)) if sizes else None,
    )


def in_words(plan: Plan, found: Estimate, bases: Store, results: Store, workers: int) -> list[str]:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    lines = [
        f"plan: {n_bases:,} bases and {n_tuned:,} fine-tunings "
        f"({plan.folds} folds, {plan.setups} base set-ups)"
    ]
    if n_bases and shared:
        lines.append(
            f"reuse: each base serves {shared / n_bases:.3g} fine-tunings; trained alone they "
            f"would train {shared:,} bases"
        )
    kept = sum(map(bases.has, (base.hash for base in plan.bases)))
    done = sum(map(results.has, (spec.hash for spec in plan.finetunings)))
    lines.append(f"kept from before: {kept:,} bases, {done:,} fine-tunings")
    basis = "as measured before" if found.measured else "a guess, nothing is measured yet"
    saved = "" if math.isnan(found.ratio) else (
        f"; without sharing {duration(found.alone_seconds)} (ratio {found.ratio:.2f})"
    )  # fmt: skip
    lines.append(f"time: about {duration(found.seconds)} with {workers} workers, {basis}{saved}")
    lines.append(f"disk: about {found.disk / 1e6:,.0f} MB")
    return lines


def duration(seconds: float) -> str:
    """Write a time as a person reads it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} days"
