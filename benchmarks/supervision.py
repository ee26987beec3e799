"""What supervision costs, and how soon a training goes on after each fault.

    python benchmarks/supervision.py             # both parts
    python benchmarks/supervision.py --only speed
    python benchmarks/supervision.py --only faults

`speed`: the default model on 129 channels, 2 s at 100 Hz, pretrained in this process and in a
supervised child by turns, in rounds of changing order. Windows per second are those of the epochs'
records; the start-up cost is what a supervised training takes longer outside of its epochs.

`faults`: a small model, and each fault in turn on a simulated device. Detection is from the last
heartbeat to the record of the incident, the child ended by then; the first step after it is that
of the next child, its start and the imports of torch included. Times of the heartbeat are the
child's own, of the monotonic clock.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hbn_foundation  # noqa: F401 - before torch, which reads how its threads are to wait

# isort: split
import numpy as np
import pandas as pd
import torch

from arguments import count
from hbn_foundation.errors import UserError
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.pretrain import PretrainingJob, pretrain
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.heartbeat import STEP, Beat, read_beat
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.params import SupervisionParams
from hbn_foundation.training.supervision.run_folder import damage
from pretraining_speed import make_splits, make_store

LEAST_RATIO = 0.98
SMALL = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}
N_SUBJECTS, N_CHANNELS, N_WINDOWS, BATCH = 6, 19, 32, 16
EPOCHS = 3  # of 8 steps
SHORT = SupervisionParams(
    start=60, first_step=30, step_least=2, evaluation=20, checkpoint=20, kill_after=2
)
#: Each fault as ordered, and the incidents and the device of the epochs that are specified for it.
FAULTS: dict[str, tuple[str, list[str], set[str]]] = {
    "hang": ("hang@3", ["silent"], {"cpu"}),
    "hang_gil": ("hang_gil@3", ["silent"], {"cpu"}),
    "stubborn": ("stubborn@3", ["silent"], {"cpu"}),
    "crash": ("crash@3", ["died"], {"cpu"}),
    "kill": ("kill@3", ["died"], {"cpu"}),
    "exit": ("exit@3", ["no_result"], {"cpu"}),
    "cuda": ("cuda@3", ["device_error"], {"cpu"}),
    "oom": ("oom@3", ["out_of_memory"] * 2, {"simulated"}),
    "oom_evaluation": ("oom_evaluation@3", ["out_of_memory"] * 2, {"simulated"}),
    "nan_once": ("nan@11", [], {"simulated"}),  # in the second epoch, as the two below
    "nan": ("nan@11*1", ["error"], {"simulated"}),  # that is, from there on
    "error": ("error@11", ["error"], {"simulated"}),
}
NOT_RETRIED = ("nan", "error")
SECONDS_BETWEEN_LOOKS = 0.005


@dataclass
class Watcher:
    """Notes when the files of a run change, as `hbn-foundation monitor` might, but faster."""

    folder: Path
    beats: list[Beat] = field(default_factory=list)
    incidents: list[float] = field(default_factory=list)  # monotonic times

    def __enter__(self) -> Watcher:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_LOOKS):
            self._look()
        self._look()

    def _look(self) -> None:
        new = len(read_incidents(self.folder)) - len(self.incidents)
        self.incidents += [time.monotonic()] * new
        beat = read_beat(self.folder)
        if beat is not None and (not self.beats or beat != self.beats[-1]):
            self.beats.append(beat)

    def detection(self) -> float | None:
        """Seconds from the last beat before the first incident to its record."""
        if not self.incidents:
            return None
        before = [beat.monotonic for beat in self.beats if beat.monotonic < self.incidents[0]]
        return self.incidents[0] - max(before)

    def first_step(self) -> float | None:
        """Seconds from the last incident to the end of the next child's first step."""
        if not self.incidents:
            return None
        after = [
            beat.monotonic
            for beat in self.beats
            if beat.monotonic > self.incidents[-1] and beat.section == STEP
        ]
        return min(after) - self.incidents[-1] if after else None


def small_store(folder: Path) -> SignalStore:
    random = np.random.default_rng(0)
    positions = random.standard_normal((N_CHANNELS, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    recordings = [
        (
            {"recording": f"sub-{number}_task-rest", "subject": str(number), "task": "rest"},
            random.standard_normal((N_WINDOWS * 200, N_CHANNELS), dtype=np.float32),
        )
        for number in range(N_SUBJECTS)
    ]
    names = tuple(f"E{number}" for number in range(1, N_CHANNELS + 1))
    return store_from_arrays(folder, recordings, names, positions, 100.0)


def try_fault(kind: str, data: EEGDataset, work_dir: Path) -> tuple[Any, ...]:
    """Train through one fault; return the row of the table."""
    fault, expected, devices = FAULTS[kind]
    folder = work_dir / kind / "run"  # one work_dir each: an unfinished run would be resumed
    error, epochs = None, {}
    with Watcher(folder) as watcher:
        try:
            recipe = PretrainingRecipe(
                encoder=EncoderParams(**SMALL),
                trainer=TrainerParams(
                    epochs=EPOCHS, batch_size=BATCH, early_stopping_patience=EPOCHS
                ),
                supervision=SHORT,
                fault=fault,
            )
            job = PretrainingJob(data, recipe, {"chosen": "simulated"})
            checkpoint, history, _ = job.supervise(folder.parent, run_id=folder.name)
            epochs = checkpoint.metadata["epochs_by_device"]
        except UserError as raised:
            error = str(raised)
    incidents = read_incidents(folder)
    trained = {device for device, found in epochs.items() if found}
    if kind in NOT_RETRIED:
        survived = stopped_as_specified(error, folder)
    else:
        survived = error is None and len(history) == EPOCHS and trained == devices
    survived = survived and [incident.kind for incident in incidents] == expected
    ended = ", ".join(sorted(trained)) or "one message"
    return kind, incidents, watcher.detection(), watcher.first_step(), ended, survived


def stopped_as_specified(error: str | None, folder: Path) -> bool:
    """Tell whether an error surfaced, once, and the epoch before it is kept whole."""
    whole = damage(folder / "epoch-001") is None and damage(folder / "best") is None
    return error is not None and "step" in error.splitlines()[0] and whole


def measure_faults(kinds: list[str], folder: Path) -> None:
    """Try each fault and print the table."""
    store = small_store(folder / "small")
    splits = pd.DataFrame(
        {
            "subject": [str(number) for number in range(N_SUBJECTS)],
            "split": ["train"] * 4 + ["validation"] * 2,
        }
    )
    data = EEGDataset(store, cut_windows(store, WindowParams()), splits, pd.DataFrame())
    began = time.monotonic()
    rows = [try_fault(kind, data, folder / "faults") for kind in kinds]
    print(
        f"\nfaults, a step is silent after {SHORT.step_least:g} s, "
        f"SIGKILL {SHORT.kill_after:g} s after SIGABRT; seconds"
    )
    print(f"{'fault':>9}  {'incidents':<18} detected  next step  ended on     as specified")
    for kind, incidents, detection, step, ended, survived in rows:
        happened = f"{len(incidents)} {incidents[0].kind if incidents else 'none'}"
        print(
            f"{kind:>9}  {happened:<18} {seconds(detection):>8}  {seconds(step):>9}  {ended:<11}  "
            f"{'yes' if survived else 'NO'}"
        )
    survived = sum(row[-1] for row in rows)
    print(
        f"{len(rows)} faults tried, {survived} as specified (at least: all), "
        f"in {time.monotonic() - began:.0f} s"
    )


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def measure_beat(folder: Path) -> float:
    """Seconds that the child spends on telling of a step, the median of many."""
    folder.mkdir()
    link = Link(folder)
    rates = dict.fromkeys((f"block_{number}/decay" for number in range(14)), 1e-3)
    taken = []
    for number in range(2000):
        began = time.perf_counter()
        link.step_done(0.1, epoch=1, step=number, loss=1.0, learning_rates=rates)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure_speed(folder: Path, rounds: int, epochs: int, every: int) -> None:
    """Pretrain the default model by turns with and without supervision; print the ratio."""
    store = make_store(folder / "store")
    windows = cut_windows(store, WindowParams()).iloc[::every].reset_index(drop=True)
    dataset = EEGDataset(store, windows, make_splits(), pd.DataFrame())
    trainer = TrainerParams(resume=False, epochs=epochs, early_stopping_patience=epochs)
    common = (dataset, PretrainingRecipe(trainer=trainer), {"chosen": "cpu"})

    def train(supervised: bool, name: str) -> tuple[float, float]:
        began = time.monotonic()
        if supervised:
            runs = folder / "supervised"
            _, history, _ = PretrainingJob(*common).supervise(runs, run_id=name)
        else:
            _, history = pretrain(*common, folder / name)
        outside = time.monotonic() - began - history["seconds"].sum()
        return history["windows_per_second"].median(), outside

    train(False, "warm-up")
    ratios, plain, start_up = [], [], []
    for number in range(rounds):
        order = (True, False) if number % 2 else (False, True)
        found = {supervised: train(supervised, f"{number}-{supervised}") for supervised in order}
        ratios.append(found[True][0] / found[False][0])
        plain.append(found[False][0])
        start_up.append(found[True][1] - found[False][1])
        print(f"round {number + 1}: ratio {ratios[-1]:.3f}, start-up {start_up[-1]:.1f} s")
    print(
        f"\ndefault model, 129 channels, {torch.get_num_threads()} threads, {rounds} rounds of "
        f"{epochs} epochs: {statistics.median(plain):.0f} windows/s unsupervised"
    )
    print(
        f"supervised / unsupervised: {statistics.median(ratios):.3f} (least {LEAST_RATIO}), "
        f"rounds {', '.join(f'{ratio:.3f}' for ratio in ratios)}"
    )
    print(
        f"start-up cost: {statistics.median(start_up):.1f} s; "
        f"telling of a step: {measure_beat(folder / 'beats') * 1e6:.0f} µs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["speed", "faults"])
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--rounds", type=count, default=6)
    parser.add_argument("--epochs", type=count, default=2)
    parser.add_argument(
        "--every", type=count, default=3, help="share of the windows, one in so many"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only != "speed":
            measure_faults(arguments.faults, Path(folder))
        if arguments.only != "faults":
            measure_speed(Path(folder), arguments.rounds, arguments.epochs, arguments.every)


if __name__ == "__main__":
    main()
