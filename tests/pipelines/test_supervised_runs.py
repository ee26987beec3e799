"""Training nodes survive: faults, signals and kills of whole `kedro run`s, as a user meets them."""

import json
import signal

import pytest

from hbn_foundation.training.supervision.heartbeat import read_beat
from kedro_project import SMALL, KedroProject
from processes import alive, interrupt_halted, state, wait_for

TRAINING = ("--pipeline", "foundation", "--nodes", "choose_device,pretrain_encoder")
EPOCHS = 4
STEP = 14  # in the second epoch


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> KedroProject:
    """A project whose recordings are ingested."""
    parameters = SMALL.replace("device: cpu", "device: auto").replace(
        "epochs: 2", f"epochs: {EPOCHS}\n    early_stopping_patience: {EPOCHS}"
    )
    project = KedroProject.copy_to(tmp_path_factory.mktemp("project"), parameters)
    project.run("--pipeline", "ingestion")
    return project


@pytest.fixture(scope="module")
def undisturbed(project) -> bytes:
    """Weights of a run without incident, which an empty file says."""
    project.run(*TRAINING)
    assert project.newest("06_models/training_incidents.jsonl").read_text() == ""
    return weights(project)


def weights(project: KedroProject) -> bytes:
    return (project.newest("06_models/foundation_checkpoint") / "weights.safetensors").read_bytes()


def stop_in_training(project: KedroProject, number: int) -> tuple[int, str]:
    """Start training, and send a signal to the whole run in its second epoch."""
    runs = project.data / "06_models" / "foundation_training"
    process = project.start("run", *TRAINING, "--params", f"foundation.fault=halt@{STEP}")

    def halted_child():
        assert process.poll() is None, process.stdout.read()
        beats = [read_beat(path) for path in runs.glob("*") if not (path / "done").exists()]
        return next((beat for beat in beats if beat and state(beat.pid) == "T"), None)

    child = wait_for(halted_child)
    assert child.epoch == 2
    interrupt_halted(process, number, child.pid)
    said, _ = process.communicate(timeout=180)
    wait_for(lambda: not alive(child.pid))
    return process.returncode, said


def kinds(project: KedroProject) -> list[str]:
    lines = project.newest("06_models/training_incidents.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


def test_a_device_that_hangs_is_left_for_the_cpu(project):
    project.run(
        *TRAINING,
        "--params",
        "foundation.fault=hang@2,foundation.supervision.step_least=3,"
        "foundation.supervision.kill_after=2",
    )
    (incident,) = project.newest("06_models/training_incidents.jsonl").read_text().splitlines()
    incident = json.loads(incident)
    assert (incident["kind"], incident["device"], incident["step"]) == ("silent", "simulated", 1)
    assert "inject" in incident["stack"]
    metadata = project.newest("06_models/foundation_checkpoint") / "metadata.json"
    epochs = json.loads(metadata.read_text())["epochs_by_device"]
    assert epochs == {"simulated": [], "cpu": list(range(1, EPOCHS + 1))}


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGKILL, -9),
    ],
)
def test_a_run_that_is_ended_goes_on_with_the_same_command(project, undisturbed, number, status):
    runs = project.data / "06_models" / "foundation_training"
    ended, said = stop_in_training(project, number)
    assert ended == status, said[-3000:]
    if number != signal.SIGKILL:
        assert "the same command resumes it" in said
    (unfinished,) = [path for path in runs.iterdir() if not (path / "done").exists()]
    said = project.run(*TRAINING)
    assert f"resuming the run {unfinished.name}" in said
    assert (unfinished / "done").exists()
    assert kinds(project) == ["killed" if number == signal.SIGKILL else "stopped"]
    history = project.newest("06_models/foundation_history.csv").read_text().splitlines()
    assert len(history) == EPOCHS + 1
    assert weights(project) == undisturbed
