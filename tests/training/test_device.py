"""The probe runs elsewhere, and its failure costs a line, not the run."""

import json
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.device import ProbeJob, choose_device
from hbn_foundation.training.params import TrainerParams
from processes import alive, wait_for

NOWHERE = ("/does/not/exist",)


@pytest.fixture
def python(tmp_path):
    """Make a command that runs a script where the probe would run."""

    def make(body: str = "", **answer) -> tuple[str, ...]:
        script = tmp_path / "probe.py"
        script.write_text(textwrap.dedent(body) + f"\nprint({json.dumps(answer)!r}, flush=True)")
        return sys.executable, str(script)

    return make


def test_the_cpu_needs_no_probe():
    plan = choose_device("cpu", interpreter=NOWHERE)
    assert (plan["chosen"], plan["reason"]) == ("cpu", "asked for")


def test_auto_finds_a_device_that_works():
    plan = choose_device("auto", timeout_seconds=120)
    assert plan["chosen"] in ("cpu", "cuda", "mps")
    assert plan["versions"]["torch"]
    assert plan["probe_seconds"]["total"] > plan["probe_seconds"]["import"] > 0
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan


def test_a_probe_that_hangs_is_ended_with_what_it_started_and_its_phase_is_told(python, tmp_path):
    command = python(f"""
        import os, pathlib, signal, subprocess, sys, time
        print('{{"phase": "import torch", "seconds": {{}}}}', flush=True)
        print('{{"phase": "look for a device", "versions": {{"torch": "2"}}}}', flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(60)
    """)
    started = time.monotonic()
    plan = choose_device("auto", timeout_seconds=5, interpreter=command)
    assert time.monotonic() - started < 40
    assert plan["chosen"] == "cpu"
    assert plan["reason"] == (
        "the probe did not answer within 5 s; it had begun to look for a device"
    )
    assert plan["versions"]["torch"] == "2"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    wait_for(lambda: not any(map(alive, pids)), 30.0)


def test_an_interrupt_ends_the_probe_too(python, monkeypatch):
    seen = []

    def communicate(process, *_, **options):
        if not seen:
            seen.append(process)
            raise KeyboardInterrupt
        return real(process, *_, **options)

    real = subprocess.Popen.communicate
    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    with pytest.raises(KeyboardInterrupt):
        choose_device("auto", interpreter=python("import time; time.sleep(60)"))
    assert seen[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os.abort()", "the probe was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise RuntimeError('no driver')", "the probe failed: RuntimeError: no driver"),
        ("print('hello')", "the probe failed: no output"),
        ("""print('{"usable": false, "reason": "too old"}')""", "too old"),
        (
            """print('{"phase": "import torch"}'); 1 / 0""",
            "the probe failed: ZeroDivisionError: division by zero; it had begun to import torch",
        ),
        (
            """import sys; print('{"usable": true, "device": "cuda"}'); sys.exit(3)""",
            "the probe failed: no output",
        ),
    ],
)
def test_a_probe_that_fails_gives_the_cpu_and_the_reason(python, body, reason):
    plan = choose_device("auto", interpreter=python(body))
    assert plan["chosen"] == "cpu"
    assert reason in plan["reason"]
    assert "\n" not in plan["reason"]


def test_a_device_asked_for_must_work_unless_fallback_is_allowed():
    with pytest.raises(UserError, match=r"cuda was asked for but cannot be used .*not be started"):
        choose_device("cuda", interpreter=NOWHERE)
    plan = choose_device("cuda", allow_fallback=True, interpreter=NOWHERE)
    assert (plan["requested"], plan["chosen"]) == ("cuda", "cpu")
    assert plan["reason"].startswith("the probe could not be started: ")


def test_the_job_reaches_the_probe(python):
    job = ProbeJob(trainer=TrainerParams(batch_size=7), n_channels=3, sfreq=128.0, n_samples=256)
    command = python("""
        import json, sys
        print(json.dumps({"usable": False, "reason": sys.stdin.read()}))
    """)
    order = json.loads(choose_device("auto", 30, interpreter=command, job=job)["reason"])
    assert (order["requested"], order["seconds"] > 30) == ("auto", True)
    assert ProbeJob.model_validate(order["job"]) == job


def test_other_output_does_not_hide_the_answer_and_warnings_are_told(python, caplog):
    command = python(
        "print('library 1.0'); print('[1]')",
        usable=True, device="cuda", reason="works", errors={}, warnings=["driver is old"],
        memory={"free": 5}, name="X", seconds={"step": 1.0},
    )  # fmt: skip
    with caplog.at_level("INFO", logger="hbn_foundation"):
        plan = choose_device("auto", interpreter=command)
    assert (plan["chosen"], plan["warnings"]) == ("cuda", ["driver is old"])
    assert (plan["memory"], plan["errors"], plan["name"]) == ({"free": 5}, {}, "X")
    assert plan["probe_seconds"]["step"] == 1.0
    warning, line = caplog.messages
    assert warning == "device: driver is old"
    assert line.startswith("device: cuda (works, probed in ")


def test_with_a_fault_to_inject_the_cpu_stands_in_for_a_missing_gpu_alone(python):
    for requested, interpreter in (("auto", python(usable=False, reason="no GPU")),
                                   ("simulated", NOWHERE)):  # fmt: skip
        plan = choose_device(requested, interpreter=interpreter, fault="hang@12")
        assert (plan["requested"], plan["chosen"]) == (requested, "simulated")
        assert plan["reason"] == "fault injection: the CPU stands in for a GPU"
    with pytest.raises(UserError, match="simulated goes with a fault"):
        choose_device("simulated")
    works = python(usable=True, device="cuda", reason="works")
    assert choose_device("auto", interpreter=works, fault="x")["chosen"] == "cuda"
    assert choose_device("cpu", fault="x")["chosen"] == "cpu"
    with pytest.raises(UserError, match="cuda was asked for"):
        choose_device("cuda", interpreter=NOWHERE, fault="x")


def test_choosing_imports_no_torch():
    code = (
        "import sys; from hbn_foundation.training.device import choose_device; "
        "choose_device('auto', interpreter=('/does/not/exist',)); "
        "import hbn_foundation.training.pretrain; "
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
