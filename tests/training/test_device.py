"""The probe runs elsewhere, and its failure costs a line, not the run."""

import json
import subprocess
import sys
import textwrap
import time

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.device import choose_device


@pytest.fixture
def python(tmp_path):
    """Make a command that runs a script where the probe would run."""

    def make(body: str) -> tuple[str, ...]:
        script = tmp_path / "probe.py"
        script.write_text(textwrap.dedent(body))
        return sys.executable, str(script)

    return make


def test_the_cpu_needs_no_probe():
    plan = choose_device("cpu", interpreter=("/does/not/exist",))
    assert (plan["chosen"], plan["reason"]) == ("cpu", "asked for")


def test_auto_finds_a_device_that_works():
    plan = choose_device("auto", timeout_seconds=120)
    assert plan["chosen"] in ("cpu", "cuda", "mps")
    assert plan["versions"]["torch"]
    assert plan["probe_seconds"]["total"] > 0
    assert json.loads(json.dumps(plan)) == plan


def test_a_probe_that_hangs_is_ended(python):
    command = python("import time\nprint('{}', flush=True)\ntime.sleep(60)")
    started = time.monotonic()
    plan = choose_device("auto", timeout_seconds=1, interpreter=command)
    assert time.monotonic() - started < 10
    assert plan["chosen"] == "cpu"
    assert plan["reason"] == "the probe did not answer within 1 s"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os.abort()", "the probe was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise RuntimeError('no driver')", "the probe failed: RuntimeError: no driver"),
        ("", "the probe failed: no output"),
        ("print('hello')", "the probe failed"),
        (
            "import json; print(json.dumps({'usable': False, 'reason': 'too old'}))",
            "too old",
        ),
    ],
)
def test_a_probe_that_fails_gives_the_cpu_and_the_reason(python, body, reason):
    plan = choose_device("auto", interpreter=python(body))
    assert plan["chosen"] == "cpu"
    assert reason in plan["reason"]
    assert "\n" not in plan["reason"]


def test_a_device_that_works_is_chosen(python):
    body = """
        import json
        print(json.dumps({"usable": True, "device": "cuda", "reason": "took a step",
                          "name": "X", "seconds": {"step": 1.0}, "versions": {"torch": "2"}}))
    """
    plan = choose_device("cuda", interpreter=python(body))
    assert (plan["chosen"], plan["name"]) == ("cuda", "X")
    assert plan["probe_seconds"]["step"] == 1.0


def test_a_device_asked_for_must_work_unless_fallback_is_allowed(python):
    command = python("raise RuntimeError('no driver')")
    with pytest.raises(UserError, match=r"cuda was asked for but cannot be used .*no driver"):
        choose_device("cuda", interpreter=command)
    plan = choose_device("cuda", allow_fallback=True, interpreter=command)
    assert (plan["requested"], plan["chosen"]) == ("cuda", "cpu")


def test_choosing_imports_no_torch():
    code = (
        "import sys; from hbn_foundation.training.device import choose_device; "
        "choose_device('cpu'); import hbn_foundation.training.pretraining; "
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
