"""Training nodes survive: faults, signals and kills of whole `kedro run`s, as a user meets them."""

import json
import signal

import pytest

from hbn_foundation.training.supervision.heartbeat import read_beat
from kedro_project import SMALL, KedroProject
from processes import alive, interrupt, wait_for

TRAINING = ("run", "--pipeline", "foundation", "--nodes", "choose_device,pretrain_encoder")
EPOCHS = 24  # a quarter of a second each: a busy machine still stops it long before its end


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project whose recordings are ingested."""
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"))
    parameters = SMALL.replace("device: cpu", "device: auto").replace(
        "epochs: 2", f"epochs: {EPOCHS}\n    early_stopping_patience: {EPOCHS}"
    )
    (project.root / "conf" / "local" / "parameters.yml").write_text(parameters)
    result = project.kedro("run", "--pipeline", "ingestion")
    assert result.returncode == 0, result.stderr[-3000:]
    return project


def newest(project: KedroProject, entry: str):
    version = project.versions(entry)[-1]
    return project.data / entry / version / entry.rsplit("/", 1)[1]


def stop_in_training(project: KedroProject, number: int) -> tuple[int, str]:
    """Start training, and send a signal to the whole run in its second epoch."""
    process = project.start(*TRAINING)
    said, child = "", None
    for line in process.stdout:
        said += line
        if f"epoch 1 of {EPOCHS}" in line and child is None:
            runs = project.data / "06_models" / "foundation_training"
            (run,) = [path for path in runs.iterdir() if not (path / "done").exists()]
            child = read_beat(run).pid
            interrupt(process, number, child)
    status = process.wait(timeout=180)
    wait_for(lambda: not alive(child))
    return status, said


def kinds(project: KedroProject) -> list[str]:
    lines = newest(project, "06_models/training_incidents.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


def test_a_device_that_hangs_is_left_for_the_cpu(project):
    result = project.kedro(
        *TRAINING,
        "--params",
        "foundation.fault=hang@2,foundation.supervision.step_least=3,"
        "foundation.supervision.kill_after=2",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (incident,) = newest(project, "06_models/training_incidents.jsonl").read_text().splitlines()
    incident = json.loads(incident)
    assert (incident["kind"], incident["device"], incident["step"]) == ("silent", "simulated", 1)
    assert "inject" in incident["stack"]
    metadata = newest(project, "06_models/foundation_checkpoint") / "metadata.json"
    epochs = json.loads(metadata.read_text())["epochs_by_device"]
    assert epochs == {"simulated": [], "cpu": list(range(1, EPOCHS + 1))}


def test_a_run_without_incident_says_so_by_an_empty_file(project):
    result = project.kedro(*TRAINING)
    assert result.returncode == 0, result.stderr[-3000:]
    assert newest(project, "06_models/training_incidents.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGKILL, -9),
    ],
)
def test_a_run_that_is_ended_goes_on_with_the_same_command(project, number, status):
    runs = project.data / "06_models" / "foundation_training"
    ended, said = stop_in_training(project, number)
    assert ended == status, said[-3000:]
    if number != signal.SIGKILL:
        assert "the same command resumes it" in said
    (unfinished,) = [path for path in runs.iterdir() if not (path / "done").exists()]
    result = project.kedro(*TRAINING)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"resuming the run {unfinished.name}" in result.stderr + result.stdout
    assert (unfinished / "done").exists()
    assert kinds(project) == ["killed" if number == signal.SIGKILL else "stopped"]
    history = newest(project, "06_models/foundation_history.csv").read_text().splitlines()
    assert len(history) == EPOCHS + 1
    undisturbed = project.kedro(*TRAINING)
    assert undisturbed.returncode == 0
    name = "06_models/foundation_checkpoint"
    versions = project.versions(name)[-2:]
    weights = [
        project.data / name / version / "foundation_checkpoint" / "weights.safetensors"
        for version in versions
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
