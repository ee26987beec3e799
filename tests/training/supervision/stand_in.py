"""A stand-in for a training, without torch: its weights are a chain of hashes over the steps.

Each step's weights depend on all steps before, so that a step left out, done twice or done out of
order shows in the last ones. Checkpoints are laid out as those of a training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, renamed_when_done
from hbn_foundation.training.supervision.faults import OOM_EVALUATION, Fault
from hbn_foundation.training.supervision.heartbeat import CHECKPOINT, EVALUATION, FIRST_STEP, STEP
from hbn_foundation.training.supervision.link import STOPPED, Link
from hbn_foundation.training.supervision.params import SupervisionParams
from hbn_foundation.training.supervision.policy import EVALUATION_BATCH
from hbn_foundation.training.supervision.process import start_interpreter
from hbn_foundation.training.supervision.run_folder import (
    METADATA,
    OWN_DIGEST,
    STATE,
    WEIGHTS,
    RunFolder,
    open_run,
    own_digest,
)
from hbn_foundation.training.supervision.supervisor import Supervisor, Work

EPOCHS, STEPS, BATCH = 4, 5, 96
#: Wide, as a child may wait for its turn on a busy machine; a test of silence narrows some.
LIMITS: dict[str, Any] = {
    "start": 60.0,
    "first_step": 60.0,
    "step_least": 60.0,
    "evaluation": 60.0,
    "checkpoint": 60.0,
    "kill_after": 5.0,
    "grace": 60.0,
}
NARROW: dict[str, Any] = {"first_step": 1.5, "step_least": 1.5}
HELD = 60.0  # seconds at most


def train(
    folder: Path,
    link: Link,
    epochs: int = EPOCHS,
    pause: float = 0.01,
    misbehave: str = "",
    payload: bytes = b"",
    hold: tuple[int, str] = (0, ""),
) -> dict[str, Any]:
    """Train.

    `misbehave` says where to hang on the device `simulated`; `hold` after which step to wait until
    a file is there, or the stop is asked for.
    """
    orders = link.orders
    weights, first = b"", 0
    if orders.resume_from is not None:
        weights = (Path(orders.resume_from) / WEIGHTS).read_bytes()
        first = int(Path(orders.resume_from).name.removeprefix("epoch-"))

    def go_wrong(where: str) -> None:
        if misbehave == where and orders.device != "cpu":
            time.sleep(1000)

    go_wrong("start")
    if misbehave == "user":
        raise UserError("trainer: something is not as it should be")
    if misbehave == "helper":
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        (folder / "helper").write_text(str(helper.pid))
    if misbehave == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    common = {"epochs": epochs, "steps": epochs * STEPS}
    link.beat(FIRST_STEP, step=first * STEPS, epoch=first + 1, **common)
    for epoch in range(first, epochs):
        for step in range(epoch * STEPS + 1, (epoch + 1) * STEPS + 1):
            fault = link.fault_due(step)
            if fault is not None and fault.kind != OOM_EVALUATION:
                fault.inject((orders.micro_batch or BATCH) / BATCH)
            time.sleep(pause)
            weights = hashlib.sha256(weights + step.to_bytes(4)).digest()
            link.step_done(pause, step=step, epoch=epoch + 1, loss=1.0)
            if step == hold[0]:
                until = time.monotonic() + HELD
                while not (link.asked_to_stop or os.path.exists(hold[1])):
                    assert time.monotonic() < until
                    time.sleep(0.005)
            if link.asked_to_stop and step < epochs * STEPS:
                asked = link.asked_to_stop
                return {"stopped": asked if asked == STOPPED else "time limit, the stand-in's"}
        link.beat(EVALUATION)
        fault = link.fault_due(step)
        if fault is not None and fault.kind == OOM_EVALUATION:
            fault.inject((orders.evaluation_batch or EVALUATION_BATCH) / EVALUATION_BATCH)
        go_wrong("evaluation")
        link.beat(CHECKPOINT)
        go_wrong("checkpoint")
        with full_disk_named(folder):
            save(folder / f"epoch-{epoch + 1:03d}", weights)
        link.beat(STEP)
    return {
        "stopped": "all epochs",
        "weights": weights.hex(),
        "micro_batch": orders.micro_batch,
        "evaluation_batch": orders.evaluation_batch,
    }


def save(folder: Path, weights: bytes) -> None:
    """Write a checkpoint as a training does."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    state = weights[::-1] * 500  # more than a block
    (temporary / WEIGHTS).write_bytes(weights)
    (temporary / STATE).write_bytes(state)
    digests = {"weights_sha256": weights, "state_sha256": state}
    metadata = {name: hashlib.sha256(part).hexdigest() for name, part in digests.items()}
    metadata[OWN_DIGEST] = own_digest(metadata)
    (temporary / METADATA).write_text(json.dumps(metadata))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def expected(epochs: int = EPOCHS) -> str:
    """Weights of a training that nothing disturbed."""
    weights = b""
    for step in range(1, epochs * STEPS + 1):
        weights = hashlib.sha256(weights + step.to_bytes(4)).digest()
    return weights.hex()


def supervise(
    run: RunFolder,
    fault: str | None = None,
    device: str = "simulated",
    seconds: float = 100.0,
    limits: dict[str, Any] | None = None,
    start_child: Any = start_interpreter,
    **arguments: Any,
) -> dict[str, Any]:
    """Supervise the stand-in."""
    work = Work(
        "stand_in:train",
        {"folder": run.path, **arguments},
        device=device,
        batch_size=BATCH,
        seconds=seconds,
        fault=Fault.parse(fault),
    )
    params = SupervisionParams(**{**LIMITS, **(limits or {})})
    return Supervisor(run, work, params, start_child).run()


def fill(path: Path) -> None:
    """Leave not a byte free."""
    with open(path / "ballast", "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue


def main(work_dir: Path, options: dict[str, Any]) -> None:
    """Be a whole run, as a process of its own; write the weights where they can be found."""
    try:
        run = open_run(work_dir, options.pop("name", "run"), {"seed": 0}, True)
        result = supervise(run, **options)
    except UserError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
    with renamed_when_done(work_dir / "result") as temporary:
        temporary.write_text(result["weights"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
