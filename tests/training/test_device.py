"""The probe runs elsewhere, and its failure costs a line, not the run."""

import json
import pickle
import subprocess
import sys
import textwrap
import time

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training import device
from hbn_foundation.training.device import ProbeJob, choose_device
from hbn_foundation.training.params import DeviceParams, TrainerParams
from hbn_foundation.training.supervision.process import WORK
from processes import alive, imported_by, wait_for

BEGIN = """
import json, os, sys, time

def tell(place="result", /, **found):
    with open(f"{place}.json", "w") as file:
        json.dump(found, file)
"""
FAILURE = "tell('failure', message='RuntimeError: no driver')"


def nowhere(_):
    raise FileNotFoundError("no Python")


def stand_in(body: str = "", **answer):
    """Start a script where the probe would run; it answers at its end."""
    script = BEGIN + textwrap.dedent(body) + (f"\ntell(**{answer!r})" if answer else "")
    command = [sys.executable, "-c", script]
    return lambda folder: subprocess.Popen(command, cwd=folder, start_new_session=True)


def choose(start_child, fault=None, job=None, **hardware):
    given = DeviceParams.model_validate(hardware)
    return choose_device(given, job or ProbeJob(), fault, start_child)


def test_the_cpu_needs_no_probe():
    plan = choose(nowhere, device="cpu")
    assert (plan["chosen"], plan["reason"]) == ("cpu", "asked for")


def test_auto_finds_a_device_that_works():
    plan = choose_device(DeviceParams(timeout_seconds=120), ProbeJob())
    assert plan["chosen"] in ("cpu", "cuda", "mps")
    assert plan["versions"]["torch"]
    assert plan["probe_seconds"]["total"] > plan["probe_seconds"]["import"] > 0
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan


def test_a_probe_that_hangs_is_ended_with_what_it_started_and_its_phase_is_told(tmp_path):
    start = stand_in(f"""
        import pathlib, signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
        tell(phase="look for a device", versions={{"torch": "2"}})
        time.sleep(60)
    """)
    started = time.monotonic()
    plan = choose(start, timeout_seconds=5)
    assert time.monotonic() - started < 40
    assert plan["chosen"] == "cpu"
    assert plan["reason"] == (
        "the probe did not answer within 5 s; it had begun to look for a device"
    )
    assert plan["versions"]["torch"] == "2"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    wait_for(lambda: not any(map(alive, pids)), 30.0)


def test_an_interrupt_ends_the_probe_too(monkeypatch):
    seen = []

    def start(folder):
        seen.append(stand_in("time.sleep(60)")(folder))
        monkeypatch.setattr(device.time, "sleep", interrupted)
        return seen[0]

    def interrupted(_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(start)
    assert seen[0].wait(10.0) != 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.abort()", "the probe failed: it was ended by SIGABRT"),
        (FAILURE, "the probe failed: RuntimeError: no driver"),
        ("print('hello')", "the probe failed: it ended with status 0"),
        ("tell(usable=False, reason='too old')", "too old"),
        ("tell(phase='import torch'); 1 / 0", "status 1; it had begun to import torch"),
        ("tell(usable=True, device='cuda'); sys.exit(3)", "it ended with status 3"),
    ],
)
def test_a_probe_that_fails_gives_the_cpu_and_the_reason(body, reason):
    plan = choose(stand_in(body))
    assert plan["chosen"] == "cpu"
    assert reason in plan["reason"]
    assert "\n" not in plan["reason"]


def test_a_device_asked_for_must_work_unless_fallback_is_allowed():
    for fault in (None, "hang@12"):
        with pytest.raises(UserError, match=r"cuda was asked for but cannot be .*not be started"):
            choose(nowhere, fault, device="cuda")
    plan = choose(nowhere, device="cuda", allow_fallback=True)
    assert (plan["requested"], plan["chosen"]) == ("cuda", "cpu")
    assert plan["reason"].startswith("the probe could not be started: ")


def test_the_job_reaches_the_probe():
    asked = []

    def start(folder):
        asked.extend(pickle.loads((folder / WORK).read_bytes()))
        return stand_in(usable=False)(folder)

    job = ProbeJob(trainer=TrainerParams(batch_size=7), n_channels=3, sfreq=128.0, n_samples=256)
    choose(start, job=job)
    assert asked[0] == device.TARGET
    assert (asked[1]["requested"], asked[1]["job"]) == ("auto", job)


def test_what_the_probe_finds_is_in_the_plan_and_warnings_are_told(caplog):
    start = stand_in(
        usable=True, device="cuda", reason="works", errors={}, warnings=["driver is old"],
        memory={"free": 5}, name="X", seconds={"step": 1.0},
    )  # fmt: skip
    with caplog.at_level("INFO", logger="hbn_foundation"):
        plan = choose(start, fault="hang@12")
    assert (plan["chosen"], plan["warnings"]) == ("cuda", ["driver is old"])
    assert (plan["memory"], plan["errors"], plan["name"]) == ({"free": 5}, {}, "X")
    assert plan["probe_seconds"]["step"] == 1.0
    warning, line = caplog.messages
    assert warning == "device: driver is old"
    assert line.startswith("device: cuda (works, probed in ")


def test_with_a_fault_to_inject_the_cpu_stands_in_for_a_missing_gpu():
    plan = choose(stand_in(usable=False, reason="no GPU"), "hang@12")
    assert (plan["requested"], plan["chosen"]) == ("auto", "simulated")
    assert plan["reason"] == "fault injection: the CPU stands in for a GPU"
    assert choose(nowhere, "hang@12", device="cpu")["chosen"] == "cpu"


def test_choosing_imports_no_torch():
    found = imported_by(
        "from hbn_foundation.training.device import *\n"
        "choose_device(DeviceParams(timeout_seconds=0.01), ProbeJob())\n"
        "import hbn_foundation.training.pretrain"
    )
    assert not found & {"torch", "lightning"}
