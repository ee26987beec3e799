"""What sharing bases saves, what a job costs beside its training, and what a second run takes.

    python benchmarks/sweep.py                 # all three
    python benchmarks/sweep.py --only sharing  # or overhead

`sharing`: two folds of a sweep over a simulated release warm the workers up. Six more folds, six
bases and 48 fine-tunings, and the same fine-tunings each with a base of its own, which differs in
its seed alone, are then carried out, two folds at a time, by turns and on the same workers. The
ratio of their times is the median of the three turns: whatever else the machine does may fall into
one half of a turn alone, and made one of six measured here .49 where the others lay from .26 to
.30. At last the sweep is run again.

`overhead`: 1,008 fine-tunings of 84 bases whose training writes one file and nothing else.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from arguments import count
from hbn_foundation.experiments.collecting import collect, measured_savings
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.engine import as_report, carry_out, check_reports
from hbn_foundation.experiments.executors import make_executor
from hbn_foundation.experiments.grid import Defaults
from hbn_foundation.experiments.job import Entry, Job, Outcome, RunContext
from hbn_foundation.experiments.params import EngineParams, GridParams, StudyParams
from hbn_foundation.experiments.planner import Data, Plan, make_plan
from hbn_foundation.experiments.specs import BASE, FINETUNE, Tuning
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import job_of
from hbn_foundation.experiments.worker import PRELOAD, Context
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.simulation.params import SimulationParams
from hbn_foundation.recordings.simulation.release import simulate_release
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import BuildParams, WindowParams
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams

FOLDS_AT_ONCE = 2
MOST_SECONDS_AGAIN = 10.0
MOST_SECONDS_OF_A_JOB = 1.0
ENCODER = EncoderParams(hidden_dim=64, n_heads=4, n_layers=2)
CLEANING, WINDOW = CleaningParams(), WindowParams()
TUNING = {
    "plan": {"strategy": "full"},
    "trainer": {"epochs": 4, "batch_size": 16, "early_stopping_patience": 50},
}
GRID = {
    "finetune": {
        "mode": ["full_fine_tuning", "target_only_fine_tuning"],
        "target_data_pct": [0.25, 0.5, 0.75, 1.0],
    }
}


def make_data(folder: Path) -> Data:
    """Simulate and clean a small release."""
    release = simulate_release(
        folder / "bids",
        SimulationParams(n_subjects=8, n_truncated=0, n_background_sources=60),
    )
    store = build_store(
        find_recordings(str(release)), BuildParams(path=str(folder / "signals")), CLEANING
    )
    splits = pd.DataFrame({"subject": pd.Series(dtype=str), "split": pd.Series(dtype=str)})
    people = read_participants(release)
    dataset = EEGDataset(store, cut_windows(store, WINDOW), splits, people, WINDOW)
    return Data(dataset, dataset)


def shared_plan(data: Data) -> Plan:
    """Eight folds, one base each, eight fine-tunings per base."""
    given = Defaults(
        ENCODER, ObjectiveParams(),
        TrainerParams(epochs=8, batch_size=32, early_stopping_patience=50),
        WINDOW, CLEANING, Tuning.model_validate(TUNING),
    )  # fmt: skip
    return make_plan(data, StudyParams(targets=8), GridParams.model_validate(GRID), given)


def alone_plan(plan: Plan) -> Plan:
    """Give the same fine-tunings a base of their own each."""
    bases, tunings = [], []
    for number, spec in enumerate(plan.finetunings):
        base = plan.base_of[str(spec.base_hash)]
        trainer = {**base.trainer.model_dump(mode="json"), "seed": 1000 + number}
        own = base.model_copy(update={"trainer": trainer})
        bases.append(own)
        tunings.append(spec.model_copy(update={"base_hash": own.hash}))
    return plan._replace(bases=bases, finetunings=tunings)


def stores(folder: Path) -> Stores:
    """Three folders in one."""
    return Stores({BASE: folder / "bases", FINETUNE: folder / "results"}, folder / "work")


def part_of(plan: Plan, targets: Sequence[str]) -> Plan:
    """Keep some folds of a plan."""
    return plan.part({spec.id for spec in plan.finetunings if spec.target in targets})


def finish(jobs: Sequence[Job], context: Context, **options: Any) -> tuple[float, list[Outcome]]:
    """Run jobs to their end; return the seconds it took, and what became of them."""
    engine = EngineParams(engine="local", workers=options.pop("workers", None))
    started = time.perf_counter()
    outcomes = carry_out(jobs, context, engine, **options)
    seconds = time.perf_counter() - started
    check_reports(as_report(outcomes))
    return seconds, list(outcomes.values())


def sharing(folder: Path, workers: int) -> list[tuple[str, str, bool]]:
    """Compare a sweep with the same jobs alone, and run it again."""
    data = make_data(folder)
    whole = shared_plan(data)
    targets = list(dict.fromkeys(spec.target for spec in whole.finetunings))
    pilot, targets = targets[:FOLDS_AT_ONCE], targets[FOLDS_AT_ONCE:]
    context = Context(stores(folder))
    there = put_dataset(data.dataset, context.stores.work)

    def jobs(plan: Plan) -> list[Job]:
        return [job_of(spec, there) for spec in (*plan.bases, *plan.finetunings)]

    plan = part_of(whole, targets)
    plans = {"shared": plan, "alone": alone_plan(plan)}
    apart: list[dict[str, float]] = []  # by turns, so that what else the machine does meets both
    executor = make_executor(EngineParams(engine="local", workers=workers), context)
    try:
        finish(jobs(part_of(whole, pilot)), context, executor=executor)
        for number in range(0, len(targets), FOLDS_AT_ONCE):
            names = list(plans)[:: 1 if number // FOLDS_AT_ONCE % 2 else -1]
            some = targets[number : number + FOLDS_AT_ONCE]
            turn = {name: jobs(part_of(plans[name], some)) for name in names}
            apart.append(
                {name: finish(mine, context, executor=executor)[0] for name, mine in turn.items()}
            )
    finally:
        executor.close()
    shared, alone = (sum(row[name] for row in apart) for name in ("shared", "alone"))
    turns = [row["shared"] / row["alone"] for row in apart]
    ratio = median(turns)
    of_jobs = measured_savings(collect(plan, context.stores))["ratio"]
    again, outcomes = finish(jobs(plan), context, workers=workers)
    trained = sum(outcome.status == "done" for outcome in outcomes)
    each = ", ".join(f"{turn:.3f}" for turn in turns)
    return [
        ("jobs", f"{len(plan.bases)} bases, {len(plan.finetunings)} fine-tunings, "
         f"{workers} workers", len(plan.bases) >= 6 and len(plan.finetunings) >= 48),
        ("wall time, shared bases", f"{shared:.1f} s", True),
        ("wall time, each its own", f"{alone:.1f} s", True),
        ("ratio", f"{ratio:.3f}, the median of {each}; together {shared / alone:.3f}", True),
        ("ratio of the jobs' own times", f"{of_jobs:.3f}", True),
        ("second run", f"{again:.1f} s, {trained} trained",
         trained == 0 and again < MOST_SECONDS_AGAIN),
    ]  # fmt: skip


def overhead(folder: Path, workers: int) -> list[tuple[str, str, bool]]:
    """Carry out 1,092 jobs whose training does nothing."""
    bases = [Job(BASE, f"{number:016x}", "sweep:nothing") for number in range(84)]
    tunings = [
        Job(FINETUNE, f"{base.key[8:]}{k:08x}", "sweep:nothing", base=Entry(BASE, base.key))
        for base in bases
        for k in range(12)
    ]
    context = Context(stores(folder), preload=("sweep", *PRELOAD))
    seconds, outcomes = finish([*bases, *tunings], context, workers=workers)
    times = sorted(outcome.seconds for outcome in outcomes)
    middle = median(times)
    return [
        ("jobs", f"{len(times):,}, {workers} workers", True),
        ("wall time", f"{seconds:.1f} s", True),
        ("a worker's time per job", f"{workers * seconds / len(times):.3f} s", True),
        ("from start to publication, median", f"{middle:.3f} s", middle < MOST_SECONDS_OF_A_JOB),
        ("the same, 99 %", f"{times[int(0.99 * len(times))]:.3f} s", True),
    ]


def nothing(run: RunContext) -> dict[str, Any]:
    """Train nothing; what a job of `overhead` calls."""
    run.link.beat("first_step")
    (run.out / "weights").write_text("")
    return {"stopped": "all epochs"}


def main() -> int:
    """Measure, and leave with status 1 when something is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["sharing", "overhead"])
    parser.add_argument("--workers", type=count, default=2)
    parser.add_argument("--folder", type=Path, help="Keep what is made here.")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    kept = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        for name, measure in (("sharing", sharing), ("overhead", overhead)):
            if options.only in (None, name):
                print(f"\n{name}")
                for what, found, right in measure(folder / name, options.workers):
                    kept = kept and right
                    print(f"  {what:36}{found}{'' if right else '   NOT as promised'}")
    return 0 if kept else 1


if __name__ == "__main__":
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    sys.exit(main())
