"""A stand-in for the trainings of a sweep: it writes a file, and misbehaves where it is told to.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.sweeps.data import DataPlace
from hbn_foundation.sweeps.engine import Sweep
from hbn_foundation.sweeps.params import EngineParams, StoreParams
from hbn_foundation.sweeps.planner import Plan
from hbn_foundation.sweeps.running import Context
from hbn_foundation.sweeps.specs import BaseSpec, FinetuneSpec
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.supervision.params import SupervisionParams

LIMITS = SupervisionParams(start=20.0, first_step=1.0, step_least=1.0, kill_after=0.5, grace=1.0)
PRELOAD = ("sweep_stand_in",)


def train_base(folder: Path, spec: Any, link: Any, **_: Any) -> dict[str, Any]:
    """Be a base."""
    return _train(folder, spec, link, "base", {})


def finetune(folder: Path, spec: Any, link: Any, base: Path, **_: Any) -> dict[str, Any]:
    """Be a fine-tuning; its base has to be there."""
    weights = (base / "weights").read_text()
    assert weights == f"weights of {spec.base_hash}"
    return _train(folder, spec, link, "finetune", {"base": weights})


def _train(folder: Path, spec: Any, link: Any, kind: str, more: dict[str, Any]) -> dict[str, Any]:
    desk = folder.parent
    _say(desk, f"start {spec.id}")
    (desk / f"pid-{spec.id}").write_text(str(os.getpid()))
    path = desk / "orders.json"
    orders = json.loads(path.read_text()) if path.is_file() else {}
    order = orders.get(spec.id, orders.get(kind, ""))
    link.beat("first_step", steps=1, epochs=1)
    what, _, once = order.partition("*")
    before = (desk / "log.txt").read_text().count(f"start {spec.id}\n") - 1
    if not once or before < int(once):
        if what == "error":
            raise ValueError("an error was ordered")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "kill_worker":
            os.kill(worker_of(desk.parent, spec.id), signal.SIGKILL)
            time.sleep(1000)
        if what == "hang":
            time.sleep(1000)
    if what == "wait":
        until = time.monotonic() + 60
        while not (desk / "go").exists() and time.monotonic() < until:
            link.beat("first_step")
            time.sleep(0.02)
    out = folder / "out"
    out.mkdir()
    (out / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
    (out / "metrics.json").write_text(json.dumps({"windows_per_second": 100.0, **more}))
    (out / "weights").write_text(f"weights of {spec.hash}")
    _say(desk, f"end {spec.id}")
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


def make_plan(n_bases: int = 2, per_base: int = 3) -> Plan:
    """Jobs without data."""
    bases, finetunings = [], []
    encoder = EncoderParams(hidden_dim=16, n_heads=2, n_layers=1)
    for number in range(n_bases):
        base = BaseSpec(
            encoder=encoder, train_subjects=(f"A{number}",), validation_subjects=("B",), data="d"
        )
        bases.append(base)
        finetunings += [
            FinetuneSpec(target="T", seed_finetune=k, base_hash=base.hash, data="e")
            for k in range(per_base)
        ]
    return Plan(bases, finetunings)


def make_context(folder: Path, **changes: Any) -> Context:
    """Stores in a folder, the stand-in as trainer, jobs forked."""
    stores = {"bases": folder / "bases", "results": folder / "results", "work": folder / "work"}
    given = changes.pop("stores", {})
    return Context(
        data=DataPlace(folder, WindowParams(), CleaningParams()),
        stores=StoreParams.model_validate({**{k: str(v) for k, v in stores.items()}, **given}),
        limits=LIMITS,
        **{
            "train_base": "sweep_stand_in:train_base",
            "finetune": "sweep_stand_in:finetune",
            "preload": PRELOAD,
            "job_start": "fork",
            **changes,
        },
    )


def run(plan: Plan, context: Context, engine: str = "inline", **options: Any) -> Sweep:
    """Carry a plan out, to the end."""
    skip = options.pop("skip_base_training", False)
    sweep = Sweep(plan, context, EngineParams(engine=engine, **options), skip)
    try:
        sweep.run_bases()
        sweep.finish()
    finally:
        sweep.close()
    return sweep


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.02)
    return found


def log(folder: Path, work: str = "work") -> list[str]:
    """Lines of what jobs did."""
    path = folder / work / "log.txt"
    return path.read_text().splitlines() if path.is_file() else []


def order(folder: Path, work: str = "work", **orders: str) -> None:
    """Say how jobs are to misbehave."""
    (folder / work).mkdir(parents=True, exist_ok=True)
    (folder / work / "orders.json").write_text(json.dumps(orders))


def main(folder: Path, work: str, n_bases: int, per_base: int, workers: int) -> int:
    """Be a whole sweep, as a process of its own; the exit status says how it ended."""
    context = make_context(folder, stores={"work": str(folder / work)})
    sweep = run(make_plan(n_bases, per_base), context, "local", workers=workers)
    print(json.dumps({name: o.status for name, o in sweep.outcomes.items()}))
    return 1 if sweep.failures() else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])))
