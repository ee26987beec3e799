"""What `hbn-foundation monitor` shows, of whole, half-written and missing files."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from io import StringIO

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hbn_foundation.cli import cli
from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision import heartbeat, run_view
from hbn_foundation.training.supervision.heartbeat import Beat, Heartbeat
from hbn_foundation.training.supervision.incidents import Incident, add_incident, now
from hbn_foundation.training.supervision.monitor import draw, fit, monitor, rate_lines
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.run_folder import RunFolder, mark_done
from hbn_foundation.training.supervision.run_view import (
    find_runs,
    process_age,
    seconds_left,
    view_run,
    watch,
)

RATES = {"band_tokens/decay": 1e-3, "band_tokens/no_decay": 1e-3, "block_1/decay": 1e-4}
INCIDENT = {
    "time": now(),
    "seconds": 30.0,
    "kind": "silent",
    "device": "cuda",
    "section": "step",
    "epoch": 2,
    "step": 17,
    "what": "silent for 31 s (limit 30 s)",
    "action": "on to cpu from the last checkpoint",
    "stack": "",
}
OLD = 1  # a process older than any beat here
GONE = 2**22 + 1  # above the largest number that Linux gives to a process


def make_run(folder, section="step", pid=None, supervisor=GONE, epochs=3, **news):
    """Leave the files of a run that trains in this process, unless `pid` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}")
    (folder / "lock").write_text(str(supervisor))
    news = {"epoch": 4, "epochs": 6, "step": 30, "steps": 60, "device": "cpu", **news}
    Heartbeat(folder).beat(
        section, learning_rates=RATES, loss=0.5, windows_per_second=512.0, median_step=0.1, **news
    )
    if pid is not None:
        change_beat(folder, pid=pid)
    rows = [
        {
            "epoch": epoch + 1,
            "train_loss": 1.0 - epoch / 10,
            "validation_loss": 2.0 + abs(epoch - 1),
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
    (folder / heartbeat.FILE).write_bytes(heartbeat.sealed({**found, **values}))


def shown(folder, width=100):
    console = Console(file=StringIO(), width=width)
    console.print(draw(view_run(folder), width))
    return console.file.getvalue()


def test_shows_a_running_training(tmp_path):
    folder = make_run(tmp_path / "run-7")
    text = shown(folder)
    for part in ("run-7", "running", "training", "cpu", "4 of 6", "30 of 60", "512 windows/s"):
        assert part in text
    assert "1.00e-03  band_tokens\n" in "\n".join(line.rstrip() for line in text.split("\n")) + "\n"
    assert "1.00e-04  block_1/decay" in text
    assert "no incident" in text
    best = [line for line in text.splitlines() if "best" in line]
    assert len(best) == 1
    assert best[0].split()[:3] == ["2", "0.9000", "2.0000"]


def test_shows_incidents(tmp_path):
    folder = make_run(tmp_path / "run")
    for step in range(9):
        add_incident(folder, Incident(**{**INCIDENT, "step": 100 + step}))
    text = shown(folder)
    assert "108" in text
    assert "100" not in text
    assert "and 4 earlier" in text
    assert "silent for 31 s" in text
    narrow = shown(folder, 40)
    assert "step 108" in narrow
    assert max(len(line) for line in narrow.splitlines()) <= 40


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_stays_within_the_terminal(tmp_path, width):
    text = shown(make_run(tmp_path / "2026-11-21T11.01.52.123Z"), width)
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize(("height", "most"), [(60, 8), (28, 4), (10, 2)])
def test_a_low_terminal_shows_fewer_epochs(tmp_path, height, most):
    folder = make_run(tmp_path / "run", epochs=20)
    for _ in range(4):
        add_incident(folder, Incident(**INCIDENT))
    console = Console(file=StringIO(), width=90, height=height)
    console.print(fit(view_run(folder), console))
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= max(height, 22)
    assert len([line for line in lines if line.split() and line.split()[0].isdigit()]) >= most


def test_best_epoch_stays_in_sight(tmp_path):
    text = shown(make_run(tmp_path / "run", epochs=30))
    words = [line.split() for line in text.splitlines() if line.split()]
    epochs = [first for first, *_ in words if first.isdigit()]
    assert epochs == ["2", *(str(number) for number in range(24, 31))]
    assert "best" in text


@pytest.mark.parametrize(
    ("files", "beat", "state"),
    [
        ({}, {}, run_view.RUNNING),
        ({}, {"pid": OLD, "monotonic": time.monotonic() - 31}, run_view.SILENT),
        ({"done": ""}, {"section": "end"}, run_view.DONE_STATE),
        ({"result.json": '{"stopped": "stopped"}'}, {"pid": GONE}, run_view.STOPPED),
        (
            {"result.json": '{"stopped": "time limit, max_training_time 9 s"}'},
            {"pid": GONE, "section": "end"},
            run_view.STOPPED,
        ),
        ({"failure.json": '{"message": "KeyError: 3"}'}, {"pid": GONE}, run_view.FAILED),
        (
            {
                "incidents.jsonl": json.dumps(
                    {**INCIDENT, "action": "given up; what is saved is kept"}
                )
            },
            {"pid": GONE},
            run_view.FAILED,
        ),
        (
            {
                "incidents.jsonl": json.dumps(
                    {**INCIDENT, "kind": "time_limit", "action": "stopped; what is saved is kept"}
                )
            },
            {"pid": GONE},
            run_view.STOPPED,
        ),
        ({}, {"pid": GONE, "monotonic": time.monotonic() - 31}, run_view.KILLED),
        ({}, {"boot": "another"}, run_view.REBOOTED),
        ({"done": ""}, {"boot": "another"}, run_view.DONE_STATE),
    ],
)
def test_tells_the_state(tmp_path, files, beat, state):
    folder = make_run(tmp_path / "run")
    change_beat(folder, **beat)
    for name, text in files.items():
        (folder / name).write_text(text)
    view = view_run(folder)
    assert view.state == state
    assert state in " ".join(shown(folder).split())
    assert (view.seconds_left is not None) == (state == run_view.RUNNING)


def test_a_child_in_a_container_is_not_taken_for_dead_at_once(tmp_path):
    folder = make_run(tmp_path / "run", pid=GONE)
    assert view_run(folder).state == run_view.RUNNING


def test_a_new_process_of_the_old_number_is_not_the_child(tmp_path):
    folder = make_run(tmp_path / "run")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        change_beat(folder, pid=process.pid, monotonic=time.monotonic() - 20)
        assert view_run(folder).state == run_view.KILLED
    finally:
        process.communicate()


def test_between_two_attempts(tmp_path):
    folder = make_run(tmp_path / "run", pid=GONE, supervisor=os.getpid())
    change_beat(folder, monotonic=time.monotonic() - 20)
    add_incident(folder, Incident(**INCIDENT))
    view = view_run(folder)
    assert view.state == run_view.RESTARTING
    assert view.note == INCIDENT["action"]


def test_process_age():
    assert process_age(GONE) is None
    assert process_age(0) is None
    assert 0 <= process_age(os.getpid()) < 1e6
    ended = subprocess.Popen([sys.executable, "-c", ""])
    until = time.monotonic() + 20
    while process_age(ended.pid) is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert process_age(ended.pid) is None  # though nobody has asked for its status yet
    ended.wait()


def test_time_left_is_of_epochs_on_this_device():
    rows = [{"device": "cuda", "seconds": 1.0}, {"device": "cpu", "seconds": 10.0}]
    beat = Beat(epochs=4, steps=40, step=20, device="cpu", median_step=0.5)
    assert seconds_left(beat, rows) == 20.0
    assert seconds_left(beat, rows[:1]) == 10.0
    assert seconds_left(Beat(), rows) is None


def test_groups_of_one_rate_are_one_line():
    assert rate_lines(dict.fromkeys(RATES, 1e-3)) == ["1.00e-03  all 3 groups"]
    assert rate_lines({}) == []


@pytest.mark.parametrize(
    "place",
    [
        "foundation_training/run",
        "foundation_training/folds/training-1a/training",
        "finetuning_comparison/training-1a/training",
        "learning_curve/training-1a/scratch/training",
    ],
)
def test_finds_the_trainings_of_every_pipeline(tmp_path, place):
    run = make_run(tmp_path / "06_models" / place)
    assert find_runs(tmp_path) == [run]


def test_finds_runs_in_data_folders(tmp_path):
    old = make_run(tmp_path / "06_models" / "foundation_training" / "a")
    new = make_run(tmp_path / "eegmat" / "06_models" / "foundation_training" / "b")
    make_run(tmp_path / "01_raw" / "06_models" / "x_training" / "hidden")
    os.utime(old / heartbeat.FILE, (1, 1))
    os.utime(old / "run.json", (1, 1))
    os.utime(old / "lock", (1, 1))
    assert find_runs(tmp_path) == [new, old]
    assert find_runs(old.parent) == [old]
    assert find_runs(old) == [old]
    assert watch(find_runs(tmp_path)).folder == new
    (new / "done").touch()
    assert watch(find_runs(tmp_path)).folder == old  # which is under way
    (old / "done").touch()
    assert watch(find_runs(tmp_path)).folder == new
    assert watch([]) is None


@given(
    name=st.sampled_from(["heartbeat.json", "history.json", "incidents.jsonl", "lock"]),
    content=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        ["epoch", "train_loss", "validation_loss", "seconds", "stopped"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_content_is_borne(tmp_path_factory, name, content):
    folder = make_run(tmp_path_factory.mktemp("any") / "run")
    for path in (name, "result.json", "failure.json"):
        (folder / path).write_bytes(content)
    assert "any" in shown(folder, 300)


@pytest.mark.parametrize("field", list(Beat.__dataclass_fields__))
@pytest.mark.parametrize("value", [None, "x", [1], {"a": "b"}, float("nan"), 1e308, True])
def test_any_beat_is_borne(tmp_path, field, value):
    folder = make_run(tmp_path / "run")
    change_beat(folder, **{field: value})
    assert "run" in shown(folder)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_half_written_files_are_borne(tmp_path, share):
    folder = make_run(tmp_path / "run")
    add_incident(folder, Incident(**INCIDENT))
    add_incident(folder, Incident(**INCIDENT))
    for name in ("heartbeat.json", "history.json", "incidents.jsonl"):
        whole = (folder / name).read_bytes().rstrip()
        (folder / name).write_bytes(whole[: int(share * len(whole))])
    assert "run" in shown(folder)


def test_files_may_vanish(tmp_path):
    folder = make_run(tmp_path / "run")
    for path in folder.iterdir():
        path.unlink()
    assert "none yet" in shown(folder)


def test_watching_takes_no_lock(tmp_path, monkeypatch):
    """A run can begin in a folder at any moment of its being watched."""
    asked = []
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: asked.append(arguments))
    make_run(tmp_path / "run")
    monitor(tmp_path, once=True, console=Console(file=StringIO()))
    assert asked == []


def test_a_run_that_begins_and_ends(tmp_path):
    run = RunFolder(tmp_path / "runs" / "run", {})
    assert view_run(run.path).state == run_view.RUNNING
    run.close()
    mark_done(run.path)
    assert view_run(run.path).state == run_view.DONE_STATE


def test_without_a_run_there_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["monitor", "--once", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "no training run here" in result.output
    result = CliRunner().invoke(cli, ["monitor", "--once", "--folder", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "nowhere: no training run here yet" in result.output
    with pytest.raises(UserError, match="there is no such folder"):
        monitor(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "place", ["foundation_training/run", "foundation_training/folds/pretraining-a1/training",
              "finetuning_comparison/training-run-b2/training"],
)  # fmt: skip
def test_a_run_of_a_pipeline_is_found_wherever_it_trains(tmp_path, place):
    folder = make_run(tmp_path / "data" / "06_models" / place)
    assert find_runs(tmp_path / "data") == [folder]
    assert place.split("/")[-2 if place.endswith("training") else -1] in shown(folder)


def test_the_command_shows_it_once(tmp_path):
    make_run(tmp_path / "foundation_training" / "run-7")
    result = CliRunner().invoke(
        cli, ["monitor", "--once", "--folder", str(tmp_path / "foundation_training")]
    )
    assert result.exit_code == 0, result.output
    assert "run-7" in result.output


def test_imports_little():
    code = (
        "import sys; import hbn_foundation.training.supervision.monitor; "
        "print([name for name in ('torch', 'lightning', 'pandas', 'numpy', 'mne', 'kedro') "
        "if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_the_limits_are_those_of_the_run(tmp_path):
    Heartbeat(tmp_path).beat("evaluation")
    (tmp_path / LIMITS).write_text(SupervisionParams(evaluation=7.0).model_dump_json())
    assert run_view.view_run(tmp_path).limit == 7.0
    (tmp_path / LIMITS).write_text("{")
    assert run_view.view_run(tmp_path).limit == SupervisionParams().evaluation
