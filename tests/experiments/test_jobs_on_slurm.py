"""An experiment whose workers are jobs of SLURM; a stand-in for its commands starts them here."""

import os
import signal
import sys

import pytest
from job_stand_in import make_context, make_plan, run

from hbn_foundation.experiments.params import SlurmParams

pytest.importorskip("dask_jobqueue")

SUBMIT = """#!/bin/sh
cat "$1" >> "{folder}/scripts"
cp "$1" "{folder}/script-$$"
setsid sh "{folder}/script-$$" > "{folder}/worker-$$" 2>&1 &
echo $! >> "{folder}/pids"
echo "Submitted batch job $!"
"""
CANCEL = """#!/bin/sh
kill -- "-$1"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """`sbatch` and `scancel`; what was submitted is in `scripts`."""
    for name, text in (("sbatch", SUBMIT), ("scancel", CANCEL)):
        path = tmp_path / name
        path.write_text(text.format(folder=tmp_path))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    yield tmp_path
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.slow
def test_workers_are_submitted_and_do_the_jobs(slurm, tmp_path):
    params = SlurmParams(
        jobs=2, queue="eeg", cores=1, memory="1GB", extra=("--gres=gpu:1",),
        prologue=(f"export PATH={os.path.dirname(sys.executable)}:$PATH",),
    )  # fmt: skip
    plan = make_plan(2, 4)
    done = run(plan, make_context(tmp_path), "slurm", slurm=params)
    assert done.failed == []
    assert len(done.outcomes) == 10
    workers = {outcome.worker for outcome in done.outcomes.values()}
    assert all(worker.startswith("SLURMCluster") for worker in workers)
    script = (slurm / "scripts").read_text()
    for line in ("#SBATCH -p eeg", "#SBATCH --gres=gpu:1", "--resources=job=1", "--nthreads=1"):
        assert line in script
