"""What `hbn-foundation monitor` shows, of whole, half-written and missing files."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hbn_foundation.cli import cli
from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision import heartbeat, monitor
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.incidents import Incident, record
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.monitor import (
    current_run,
    draw,
    find_runs,
    rate_lines,
    view_run,
)
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.run_folder import RunFolder, mark_done
from processes import imported_by

RATES = {"band_tokens/decay": 1e-3, "band_tokens/no_decay": 1e-3, "block_1/decay": 1e-4}
INCIDENT = Incident.now(
    Beat(device="cuda", section="step", epoch=2, step=17),
    "silent",
    "silent for 31 s (limit 30 s)",
    "restart on cpu from the last checkpoint",
    30.0,
)
GONE = 2**22 + 1  # above the largest number that Linux gives to a process


def make_run(folder, section="step", supervisor=GONE, epochs=3):
    """Leave the files of a run whose last beat was now."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}")
    (folder / "lock").write_text(str(supervisor))
    Link(folder).beat(
        section, epoch=4, epochs=6, step=30, steps=60, device="cpu", learning_rates=RATES,
        loss=0.5, windows_per_second=512.0, median_step=0.1, seconds_left=3.0,
        phase="2, trained: x", best_by="balanced_accuracy", best_epoch=2,
    )  # fmt: skip
    rows = [
        {
            "epoch": epoch + 1,
            "train_loss": 1.0 - epoch / 10,
            "validation_loss": 2.0 + abs(epoch - 2),
            "balanced_accuracy": 0.7 - abs(epoch - 1) / 10,
            "device": "cpu",
            "seconds": 7.0,
            "learning_rate": 1e-3,
        }
        for epoch in range(epochs)
    ]
    (folder / "history.json").write_text(json.dumps(rows))
    return folder


def change_beat(folder, **values):
    found = json.loads((folder / heartbeat.FILE).read_bytes())
    del found[heartbeat.CHECK]
    (folder / heartbeat.FILE).write_bytes(heartbeat.with_checksum({**found, **values}))


def shown(folder, width=100, height=100):
    console = Console(file=StringIO(), width=width)
    console.print(draw(view_run(folder), height))
    return console.file.getvalue()


def test_a_running_training(tmp_path):
    folder = make_run(tmp_path / "run-7")
    text = shown(folder)
    for part in ("run-7", "running, step", "30 of 60 (50%)",
                 "epoch 4/6  loss 0.500  512 windows/s  3 s left  cpu", "1.00e-03  band_tokens",
                 "1.00e-04  block_1", "2, trained: x", "device     cpu",
                 "epoch 2, by validation balanced accuracy: 0.7, in the last epoch 0.6",
                 "too old after 30 s", "no incident"):  # fmt: skip
        assert part in text
    (best,) = [line for line in text.splitlines() if line.startswith("best  2")]
    assert best.split() == ["best", "2", "0.9", "3", "0.7", "0.001", "-", "cpu"]
    assert rate_lines(dict.fromkeys(RATES, 1e-3)) == ["1.00e-03  all blocks"]


def test_the_last_incidents_are_shown_and_the_others_counted(tmp_path):
    folder = make_run(tmp_path / "run")
    for step in range(9):
        record(folder, replace(INCIDENT, step=100 + step))
    text = shown(folder)
    assert "step 108: silent for 31 s" in text
    assert "step 100" not in text
    assert "and 4 earlier" in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_stays_within_the_terminal(tmp_path, width):
    folder = make_run(tmp_path / "2026-11-21T11.01.52.123Z")
    record(folder, INCIDENT)
    assert max(len(line) for line in shown(folder, width).splitlines()) <= width


@pytest.mark.parametrize(("height", "most"), [(60, 8), (26, 6), (10, 2)])
def test_a_low_terminal_shows_fewer_epochs_and_always_the_best(tmp_path, height, most):
    folder = make_run(tmp_path / "run", epochs=30)
    for _ in range(4):
        record(folder, INCIDENT)
    lines = [line.rstrip() for line in shown(folder, height=height).splitlines()]
    assert len(lines) <= max(height, 24)
    rows = [line.removeprefix("best").split() for line in lines if line.endswith("cpu")]
    epochs = [row[0] for row in rows if row[0].isdigit()]
    assert epochs == ["2", *(str(number) for number in range(32 - most, 31))]


@pytest.mark.parametrize(
    ("files", "beat", "supervised", "state"),
    [
        ({}, {}, True, monitor.RUNNING),
        ({}, {}, False, monitor.RUNNING),  # in a container, whose processes are not seen
        ({}, {"monotonic": time.monotonic() - 31}, True, monitor.SILENT),
        ({"done": ""}, {"section": "end"}, False, monitor.DONE_STATE),
        ({"result.json": '{"stopped": "stopped"}'}, {}, False, monitor.STOPPED),
        ({"result.json": '{"stopped": "time limit, 9 s"}'}, {"section": "end"}, False,
         monitor.STOPPED),
        ({"failure.json": '{"message": "KeyError: 3"}'}, {}, False, monitor.FAILED),
        ({"incidents.jsonl": replace(INCIDENT, action="given up; what is saved is kept")}, {},
         False, monitor.FAILED),
        ({"incidents.jsonl": replace(INCIDENT, kind="time_limit", action="stopped; kept")}, {},
         False, monitor.STOPPED),
        ({"incidents.jsonl": INCIDENT}, {}, True, monitor.RESTARTING),
        ({}, {"monotonic": time.monotonic() - 31}, False, monitor.KILLED),
        ({}, {"boot": "another"}, False, monitor.REBOOTED),
        ({"done": ""}, {"boot": "another"}, False, monitor.DONE_STATE),
    ],
)  # fmt: skip
def test_the_state_is_told(tmp_path, files, beat, supervised, state):
    folder = make_run(tmp_path / "run", supervisor=os.getpid() if supervised else GONE)
    change_beat(folder, **beat)
    for name, content in files.items():
        if isinstance(content, Incident):
            record(folder, content)
        else:
            (folder / name).write_text(content)
    assert view_run(folder).state == state
    text = " ".join(shown(folder).split())
    assert state in text


def test_another_process_of_the_supervisors_number_is_not_the_supervisor(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = make_run(tmp_path / "run", supervisor=process.pid)
    change_beat(folder, monotonic=time.monotonic() - 20)
    assert view_run(folder).state == monitor.RUNNING
    os.utime(folder / "lock", (time.time() - 20,) * 2)
    assert view_run(folder).state == monitor.KILLED
    process.communicate()


@pytest.mark.parametrize("place", ["foundation_training/run", "folds/training-1a/training",
                                   "learning_curve/training-1a/scratch/training"])  # fmt: skip
def test_the_trainings_of_every_pipeline_are_found(tmp_path, place):
    run = make_run(tmp_path / "06_models" / place)
    (tmp_path / "runs" / "2026").mkdir(parents=True)
    (tmp_path / "runs" / "2026" / "run.json").touch()  # of a pipeline
    assert find_runs(tmp_path) == find_runs(run.parent) == find_runs(run) == [run]
    assert place.split("/")[-2 if place.endswith("training") else -1] in shown(run)


def test_the_run_under_way_is_watched_or_else_the_last_one(tmp_path):
    old = make_run(tmp_path / "06_models" / "foundation_training" / "a")
    new = make_run(tmp_path / "eegmat" / "06_models" / "foundation_training" / "b")
    make_run(tmp_path / "01_raw" / "06_models" / "x_training" / "hidden")
    for name in (heartbeat.FILE, "run.json", "lock"):
        os.utime(old / name, (1, 1))
    assert find_runs(tmp_path) == [new, old]
    assert current_run(find_runs(tmp_path)).folder == new
    (new / "done").touch()
    assert current_run(find_runs(tmp_path)).folder == old  # which is under way
    (old / "done").touch()
    assert current_run(find_runs(tmp_path)).folder == new
    assert current_run([]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["epoch", "train_loss", "validation_loss", "seconds", "stopped"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(
    name=st.sampled_from(["heartbeat.json", "history.json", "incidents.jsonl", "lock"]),
    content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_content_is_borne(tmp_path_factory, name, content):
    folder = make_run(tmp_path_factory.mktemp("any") / "run")
    for path in (name, "result.json", "failure.json", LIMITS):
        (folder / path).write_bytes(content)
    assert "any" in shown(folder, 300)


@pytest.mark.parametrize("field", list(Beat.__dataclass_fields__))
@pytest.mark.parametrize("value", [None, "x", [1], {"a": "b"}, float("nan"), 1e308, True])
def test_any_beat_is_borne(tmp_path, field, value):
    folder = make_run(tmp_path / "run")
    change_beat(folder, **{field: value})
    assert "run" in shown(folder)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_half_written_and_missing_files_are_borne(tmp_path, share):
    folder = make_run(tmp_path / "run")
    for _ in range(2):
        record(folder, INCIDENT)
    for path in list(folder.iterdir()):
        whole = path.read_bytes().rstrip()
        path.write_bytes(whole[: int(share * len(whole))])
        if not share:
            path.unlink()
    assert "run" in shown(folder)


def test_watching_takes_no_lock(tmp_path, monkeypatch):
    """A run can begin in a folder at any moment of its being watched."""
    asked = []
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: asked.append(arguments))
    make_run(tmp_path / "run")
    monitor.monitor(tmp_path, once=True, console=Console(file=StringIO()))
    assert asked == []


def test_a_run_that_begins_and_ends(tmp_path):
    run = RunFolder(tmp_path / "runs" / "run", {})
    assert view_run(run.path).state == monitor.RUNNING
    run.close()
    mark_done(run.path)
    assert view_run(run.path).state == monitor.DONE_STATE


def test_the_command_shows_it_once_or_says_in_a_line_that_there_is_nothing(tmp_path):
    def once(folder):
        return CliRunner().invoke(cli, ["monitor", "--once", "--folder", str(folder)])

    for folder in (tmp_path, tmp_path / "nowhere"):
        result = once(folder)
        assert result.exit_code == 1
        assert result.output.count("\n") == 1
        assert f"{folder}: no training run here yet" in result.output
    with pytest.raises(UserError, match="there is no such folder"):
        monitor.monitor(tmp_path / "nowhere")
    make_run(tmp_path / "foundation_training" / "run-7")
    result = once(tmp_path / "foundation_training")
    assert result.exit_code == 0, result.output
    assert "run-7" in result.output


def test_it_imports_little():
    found = imported_by("import hbn_foundation.training.supervision.monitor")
    assert not found & {"torch", "lightning", "pandas", "numpy", "mne", "kedro"}


def test_the_limits_are_those_of_the_run(tmp_path):
    Link(tmp_path).beat("evaluation")
    (tmp_path / LIMITS).write_text(SupervisionParams(evaluation=7.0).model_dump_json())
    assert view_run(tmp_path).limit == 7.0
    (tmp_path / LIMITS).write_text("{")
    assert view_run(tmp_path).limit == SupervisionParams().evaluation
