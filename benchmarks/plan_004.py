"""The whole plan for ten subjects on a CPU, in one command: time of each part.

    python benchmarks/plan_004.py                    # a folder that is removed at the end
    python benchmarks/plan_004.py --work data/plan   # kept; parts that are done are not repeated
    python benchmarks/plan_004.py --root <release>   # the first ten subjects of a release

10 subjects and about the 4,904 windows of 129 channels that were planned for HBN, 15 epochs,
evaluation, both challenges with their tables, submission, variants of the models: `kedro run --env
plan_004` for each, in a copy of the project. Nine hours were planned. Where other programs want the
processor too, the minutes of processor time (on Linux: of all processes of the plan) say what it
took by itself.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
COPIED = ("conf", "src", "pyproject.toml", ".telemetry")
PARTS = ("foundation", "challenge1", "challenge2", "submission", "optimization")
MOST_MINUTES = 15.0
TIMES = "times.json"
ADOPT = 36  # prctl's PR_SET_CHILD_SUBREAPER


def copy_project(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = PROJECT / name
        if not (work / name).exists():
            (shutil.copy if source.is_file() else shutil.copytree)(source, work / name)


def run(work: Path, name: str, root: str | None) -> tuple[float, float]:
    """Run a pipeline; return its seconds, and those of processor time."""
    command = [sys.executable, "-m", "kedro", "run", "--env", "plan_004", "--pipeline", name]
    if root is not None:
        command += ["--params", f"ingestion.source.root={root}"]
    environment = {**os.environ, "PYTHONPATH": str(work / "src")}
    started, before = time.perf_counter(), os.times()
    with (work / f"{name}.txt").open("w") as log:
        done = subprocess.run(
            command, check=False, cwd=work, env=environment, stdout=log, stderr=log
        )
    if done.returncode:
        tail = (work / f"{name}.txt").read_text().splitlines()[-15:]
        sys.exit(f"{name} ended with status {done.returncode}:\n" + "\n".join(tail))
    seconds = time.perf_counter() - started
    while adopted():
        pass
    after = os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4])


def adopted() -> bool:
    """Wait for a process that outlives the command that began it, so that its time counts."""
    try:
        return os.wait()[0] > 0
    except ChildProcessError:
        return False


def line(part: str, seconds: float, used: float) -> str:
    """Give a row."""
    return f"{part:>24}  {seconds / 60:6.1f} min, {used / 60:6.1f} of processor time"


def describe(work: Path) -> str:
    """Count subjects and windows, from the newest statistics."""
    found = sorted((work / "data/plan_004/08_reporting/dataset_statistics.json").glob("*/*.json"))
    total = json.loads(found[-1].read_text())["splits"]["total"]
    return f"{total['subjects']} subjects, {total['windows']:,} windows"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder of the copy and its data")
    parser.add_argument("--root", help="BIDS root; by default a simulated release")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPT, 1)
    with tempfile.TemporaryDirectory(prefix="plan-") as name:
        work = (options.work or Path(name)).resolve()
        copy_project(work)
        times = json.loads((work / TIMES).read_text()) if (work / TIMES).exists() else {}
        for part in options.only:
            if part not in times:
                times[part] = run(work, part, options.root)
                (work / TIMES).write_text(json.dumps(times))
            print(line(part, *times[part]), flush=True)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(line("together", *map(sum, zip(*times.values(), strict=True))))
        print(f"at most {MOST_MINUTES:.0f} min wanted; {describe(work)}; load {load:.1f} on "
              f"{os.cpu_count()} cores")  # fmt: skip


if __name__ == "__main__":
    main()
