"""How fast pretraining is, beside a transformer with one token per time step.

    python benchmarks/pretraining_speed.py            # both parts
    python benchmarks/pretraining_speed.py --only speed
    python benchmarks/pretraining_speed.py --only load --tokens band time

`speed`: windows per second of whole training steps (reading from the signal store, forward,
backward, clipping, optimizer) on 129 channels, 2 s at 100 Hz, in interleaved rounds within one
process. The other transformer has the same width, heads, layers, precision and optimizer. Matrix
products of a window (without those inside attention) and their rate over the whole step say how far
the ratio could go. With `--threads 1` processor time is measured, which other work on the machine
changes little.

`load`: 10 subjects, 4,904 windows, 15 epochs, validation after each, through `pretrain` itself.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import hbn_foundation  # noqa: F401 - before torch, which reads how its threads are to wait

# isort: split
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from arguments import count
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.models.trunk import Block
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.optim import make_optimizer
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.pretrain import PretrainingJob, pretrain
from hbn_foundation.training.recipes import PretrainingRecipe

N_SUBJECTS, N_WINDOWS, N_CHANNELS, N_SAMPLES, SFREQ = 10, 4904, 129, 200, 100.0
N_VALIDATION = 2
OURS = {"band": ("band",), "band + time": ("band", "time")}
OTHER = "one token per time step"
LEAST_RATIO, LEAST_RATE, MOST_MINUTES = 20.0, 500.0, 10.0


class TokenPerTimeStep(nn.Module):
    """Each time step of all channels is a token; hidden stretches are reconstructed."""

    def __init__(self, params: EncoderParams) -> None:
        super().__init__()
        dim = params.hidden_dim
        self.embed = nn.Linear(N_CHANNELS, dim)
        self.position = nn.Parameter(0.02 * torch.randn(N_SAMPLES, dim))
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.trunk = nn.Sequential(
            *(
                Block(
                    dim,
                    params.n_heads,
                    params.feedforward_ratio,
                    params.dropout,
                    params.layer_scale,
                )
                for _ in range(params.n_layers)
            )
        )
        self.norm = nn.LayerNorm(dim)
        self.decode = nn.Linear(dim, N_CHANNELS)

    def forward(self, signals: Tensor) -> Tensor:
        """Mean squared error at the hidden half of the time steps."""
        steps = signals.transpose(1, 2)
        hidden = torch.rand(len(steps), N_SAMPLES // 20) < 0.5
        hidden = hidden.repeat_interleave(20, 1)
        tokens = torch.where(hidden[..., None], self.mask_token, self.embed(steps))
        decoded = self.decode(self.norm(self.trunk(tokens + self.position)))
        return (decoded.float() - steps)[hidden].square().mean()


def now() -> float:
    """Seconds, on one thread of processor time."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def endless(module: Any, batch_size: int) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    for epoch in itertools.count():
        yield from module.data.training.training(batch_size, epoch)


def make_store(folder: Path) -> SignalStore:
    """Noise with a spectrum that falls, 10 subjects, as many windows as the load has."""
    random = np.random.default_rng(0)
    names = tuple(f"E{number}" for number in range(1, N_CHANNELS + 1))
    positions = random.standard_normal((N_CHANNELS, 3))
    positions[:, 2] = np.abs(positions[:, 2])
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    recordings = []
    for subject in range(N_SUBJECTS):
        count = N_WINDOWS // N_SUBJECTS + (subject < N_WINDOWS % N_SUBJECTS)
        white = random.standard_normal((count * N_SAMPLES, N_CHANNELS), dtype=np.float32)
        white[1:] += white[:-1]
        row = {"recording": f"sub-{subject}_task-rest", "subject": str(subject), "task": "rest"}
        recordings.append((row, white))
    return store_from_arrays(folder, recordings, names, positions, SFREQ)


def make_splits() -> pd.DataFrame:
    names = ["train"] * (N_SUBJECTS - N_VALIDATION) + ["validation"] * N_VALIDATION
    return pd.DataFrame({"subject": [str(i) for i in range(N_SUBJECTS)], "split": names})


def objective_for(tokens: tuple[str, ...]) -> ObjectiveParams:
    return ObjectiveParams(name="masked" if "time" in tokens else "band_completion")


def make_module(store: SignalStore, tokens: tuple[str, ...], batch_size: int) -> Any:
    recipe = PretrainingRecipe(
        encoder=EncoderParams(tokens=tokens),
        objective=objective_for(tokens),
        trainer=TrainerParams(batch_size=batch_size, normalisation_windows=500),
    )
    windows = cut_windows(store, WindowParams())
    dataset = EEGDataset(store, windows, make_splits(), pd.DataFrame())
    module = PretrainingJob(dataset, recipe, {"chosen": "cpu"}).prepare().train()
    module.on_fit_start()  # targets of whole windows are made once, before the first epoch
    return module


def training_step(
    model: nn.Module, blocks: Any, loss_of: Callable[[Any], Tensor], precision: str
) -> Callable[[Any], None]:
    """Make the whole step on a batch, the same for all models."""
    optimizer = make_optimizer(parameter_groups(blocks, 1e-3, 0.05), (0.9, 0.98))

    def step(batch: Any) -> None:
        bf16 = torch.autocast("cpu", torch.bfloat16) if "bf16" in precision else nullcontext()
        with bf16:
            loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class Speed(NamedTuple):
    """Of one model."""

    rates: list[float]  # windows per second, by round
    work: float  # FLOP of the matrix products of a window


def measure_speed(store: SignalStore, precision: str, rounds: int) -> dict[str, Speed]:
    """Measure each model in rounds of one stretch each."""
    sizes = {**dict.fromkeys(OURS, 96), OTHER: 16}
    steps, sources = {}, {}
    for name, tokens in OURS.items():
        module = make_module(store, tokens, sizes[name])
        blocks = [*module.encoder.blocks(), ("objective", module.objective)]
        steps[name] = training_step(
            module, blocks, lambda batch, m=module: m.objective(m.encoder, batch, m.positions).loss,
            precision,
        )  # fmt: skip
        sources[name] = endless(module, sizes[name])
    other = TokenPerTimeStep(EncoderParams())
    steps[OTHER] = training_step(
        other, [("all", other)], lambda batch: other(batch.signals), precision
    )
    sources[OTHER] = endless(make_module(store, ("band",), 16), 16)
    found: dict[str, Speed] = {}
    for name, step in steps.items():  # which also warms up
        with FlopCounterMode(display=False) as counter:
            step(next(sources[name]))
        found[name] = Speed([], counter.get_total_flops() / sizes[name])
    for _ in range(rounds):
        for name, step in steps.items():
            repeats = 1 if name == OTHER else 6
            started = now()
            for _ in range(repeats):
                step(next(sources[name]))
            found[name].rates.append(repeats * sizes[name] / (now() - started))
    return found


def report_speed(found: dict[str, Speed], precision: str) -> None:
    other = found[OTHER]
    print(
        f"pretraining steps, {N_CHANNELS} channels, {torch.get_num_threads()} threads, "
        f"{precision}; ratios to one token per time step (least {LEAST_RATIO:.0f})"
    )
    print(f"{'tokens':>24}  windows/s  ratio  GFLOP/window  ratio  GFLOP/s")
    for name, (rates, work) in found.items():
        rate = statistics.median(rates)
        ratio = statistics.median(a / b for a, b in zip(rates, other.rates, strict=True))
        print(f"{name:>24}  {rate:9.1f}  {ratio:5.1f}  {work / 1e9:12.3f}  {other.work / work:5.1f}"
              f"  {rate * work / 1e9:7.0f}")  # fmt: skip
    rate = statistics.median(found["band + time"].rates)
    print(f"band + time: {rate:.0f} windows/s (least {LEAST_RATE:.0f})")


def measure_load(store: SignalStore, tokens: tuple[str, ...], folder: Path) -> None:
    """Run the whole load and print its time."""
    windows = cut_windows(store, WindowParams())
    assert len(windows) == N_WINDOWS
    started = time.perf_counter()
    recipe = PretrainingRecipe(
        encoder=EncoderParams(tokens=tokens),
        objective=objective_for(tokens),
        trainer=TrainerParams(epochs=15, early_stopping_patience=15),
    )
    dataset = EEGDataset(store, windows, make_splits(), pd.DataFrame())
    _, history = pretrain(dataset, recipe, {"chosen": "cpu"}, folder)
    minutes = (time.perf_counter() - started) / 60
    print(
        f"load of {N_SUBJECTS} subjects, {N_WINDOWS} windows, {len(history)} epochs, "
        f"{' + '.join(tokens)} tokens: {minutes:.1f} minutes (at most {MOST_MINUTES:.0f}), "
        f"{history['windows_per_second'].median():.0f} windows/s in training"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["speed", "load"])
    parser.add_argument("--tokens", nargs="+", default=["band"], choices=["band", "time"])
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--precision", choices=["auto", "32", "bf16"], default="auto")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        if arguments.only != "load":
            precision = choose_precision(arguments.precision, "cpu")
            report_speed(measure_speed(store, precision, arguments.rounds), precision)
        if arguments.only != "speed":
            measure_load(store, tuple(arguments.tokens), Path(folder) / "run")


if __name__ == "__main__":
    main()
