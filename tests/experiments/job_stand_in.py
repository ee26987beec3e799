"""A stand-in for trainings: it writes a file, and misbehaves where it is told to.

What jobs did is appended to `log.txt` beside their folders; `orders.json` there says for a job's
name, or for `base` and `finetune`, what to do: `error`, `kill`, `hang` (each time, or `*1` once),
or `wait` until the file `go` is there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from hbn_foundation.experiments.engine import as_report, carry_out
from hbn_foundation.experiments.job import Entry, Job, RunContext
from hbn_foundation.experiments.params import EngineParams, SyncParams
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.worker import Context
from hbn_foundation.training.supervision.params import SupervisionParams

LIMITS = SupervisionParams(start=120.0, first_step=60.0, step_least=60.0, kill_after=5.0)
#: For those that hang.
NARROW = LIMITS.model_copy(update={"first_step": 2.0, "step_least": 2.0, "grace": 1.0})
PRELOAD = ("job_stand_in",)


def train(run: RunContext, needs: str | None) -> dict[str, Any]:
    """Be a training; its base has to be there."""
    folder, link, run_id, base = run.folder, run.link, run.run_id, run.base
    if needs is not None:
        assert base is not None
        assert (base / "weights").read_text() == f"weights of {needs}"
    desk, kind = folder.parent, run_id.partition("-")[0]
    _say(desk, f"start {run_id}")
    (desk / f"pid-{run_id}").write_text(str(os.getpid()))
    path = desk / "orders.json"
    orders = json.loads(path.read_text()) if path.is_file() else {}
    order = orders.get(run_id, orders.get(kind, ""))
    link.beat("first_step", steps=1, epochs=1)
    what, _, once = order.partition("*")
    before = (desk / "log.txt").read_text().count(f"start {run_id}\n") - 1
    if not once or before < int(once):
        if what == "error":
            raise ValueError("an error was ordered")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "kill_worker":
            os.kill(worker_of(desk.parent, run_id), signal.SIGKILL)
            time.sleep(1000)
        if what == "hang":
            time.sleep(1000)
    if what == "wait":
        until = time.monotonic() + 180
        while not (desk / "go").exists() and time.monotonic() < until:
            link.beat("first_step")
            time.sleep(0.02)
    (run.out / "weights").write_text(f"weights of {run_id}")
    _say(desk, f"end {run_id}")
    return {"stopped": "all epochs"}


def worker_of(folder: Path, name: str) -> int:
    """Process id of the worker that carries a job out: the parent of the job's fork server."""
    server = _parent(int((folder / "work" / f"pid-{name}").read_text()))
    return _parent(server)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _say(desk: Path, line: str) -> None:
    with open(desk / "log.txt", "a") as file:
        file.write(f"{line}\n")


class Plan(NamedTuple):
    """Jobs without data."""

    bases: list[Job]
    tunings: list[Job]

    @property
    def jobs(self) -> list[Job]:
        """All of them."""
        return [*self.bases, *self.tunings]


def make_plan(n_bases: int = 2, per_base: int = 3) -> Plan:
    """Bases and the fine-tunings of each."""
    bases, tunings = [], []
    for number in range(n_bases):
        base = _job("base", f"{number:016x}", None)
        bases.append(base)
        tunings += [_job("finetune", f"{number:08x}{k:08x}", base) for k in range(per_base)]
    return Plan(bases, tunings)


def _job(kind: str, key: str, base: Job | None) -> Job:
    needs = None if base is None else base.id
    return Job(
        kind, key, "job_stand_in:train", {"needs": needs},
        None if base is None else Entry(base.kind, base.key),
    )  # fmt: skip


def make_context(folder: Path, **changes: Any) -> Context:
    """Stores in a folder."""
    names = {"bases": "bases", "results": "results", "work": "work", **changes.pop("folders", {})}
    there = {kind: folder / name for kind, name in names.items()}
    stores = Stores(
        {"base": there["bases"], "finetune": there["results"]}, there["work"],
        SyncParams(**changes.pop("sync", {})),
    )  # fmt: skip
    given = {"limits": LIMITS, "preload": PRELOAD, **changes}
    return Context(stores, **given)


class Done(NamedTuple):
    """What a run of jobs gave."""

    outcomes: dict[str, Any]

    @property
    def statuses(self) -> dict[str, str]:
        """By id."""
        return {name: outcome.status for name, outcome in self.outcomes.items()}

    @property
    def report(self) -> dict[str, Any]:
        """As it is stored."""
        return as_report(self.outcomes)

    @property
    def failed(self) -> list[str]:
        """Jobs without a result."""
        return [name for name, status in self.statuses.items() if status not in ("done", "kept")]


def run(plan: Plan | list[Job], context: Context, engine: str = "inline", **options: Any) -> Done:
    """Carry a plan out, to the end."""
    given = {name: options.pop(name) for name in ("known", "tell") if name in options}
    jobs = plan.jobs if isinstance(plan, Plan) else plan
    return Done(carry_out(jobs, context, EngineParams(engine=engine, **options), **given))


def log(folder: Path, work: str = "work") -> list[str]:
    """Lines of what jobs did."""
    path = folder / work / "log.txt"
    return path.read_text().splitlines() if path.is_file() else []


def order(folder: Path, work: str = "work", **orders: str) -> None:
    """Say how jobs are to misbehave."""
    (folder / work).mkdir(parents=True, exist_ok=True)
    (folder / work / "orders.json").write_text(json.dumps(orders))


def main(folder: Path, work: str, n_bases: int, per_base: int, workers: int) -> int:
    """Be a whole experiment, as a process of its own; the exit status says how it ended."""
    context = make_context(folder, folders={"work": work})
    done = run(make_plan(n_bases, per_base), context, "local", workers=workers)
    print(json.dumps(done.statuses))
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])))
