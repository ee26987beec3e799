"""Where the time of a training step goes, and how much of this machine's arithmetic it reaches.

    python benchmarks/profile.py                     # all parts, 3 minutes
    python benchmarks/profile.py --only step loading
    BRAINDECODE_PYTHON=throwaway/bin/python python benchmarks/profile.py --only models

`step`: shares of reading, spectra, other inputs, trunk, objective, backward, optimizer and the rest
in the fastest of several training steps on 129 channels, in single precision and, where the
processor has it, in mixed bf16; beside them the largest rate of matrix products (GEMM) that this
machine reaches in the same minute, and the share of it that forward and backward passes of the
learned part reach; with `--threads 1` in processor time, which other work on the machine changes
little. `speed`: band tokens, and band and time tokens, against a transformer with one
token per time step, of `pretraining_speed.py`. `loading`: from the store to a batch, over batch
sizes and threads, from the operating system's cache and from the disk. `models`: other encoders of
braindecode (`window_reading.py` says how to install it) on 129 × 200.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hbn_foundation  # noqa: F401 - before torch, which reads how its threads are to wait

# isort: split
import torch
from torch.utils.flop_counter import FlopCounterMode

import pretraining_speed as speed
import window_reading as reading
from arguments import count
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.optim import make_optimizer
from hbn_foundation.training.precision import choose_precision

PARTS = ("step", "speed", "loading", "models")
SIZES, BATCHES = (256, 512, 1024), (16, 96, 256)
BATCH = 96
OTHER = Path(__file__).with_name("profile_braindecode.py")


def gemm_peak(dtype: torch.dtype) -> float:
    """Return the largest rate of square matrix products in GFLOP/s."""
    best = 0.0
    for size in SIZES:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        for _ in range(4):
            started = speed.now()
            a @ b
            best = max(best, 2 * size**3 / (speed.now() - started) / 1e9)
    return best


def name_of(dtype: torch.dtype) -> str:
    """Name a type of numbers."""
    return str(dtype).removeprefix("torch.")


class Clock:
    """Seconds by name; time inside a part counts for that part alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count a function's time."""

        def run(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            started = speed.now()
            try:
                return function(*arguments, **named)
            finally:
                whole = speed.now() - started
                self.seconds[name] += whole - self._inner.pop()
                self._inner[-1] += whole

        return run


def profile_step(
    store: SignalStore, tokens: tuple[str, ...], steps: int, dtype: torch.dtype
) -> None:
    """Print the shares of the fastest training step, which other work has disturbed least."""
    module, clock = speed.make_module(store, tokens, BATCH), Clock()
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    encoder, objective = module.encoder, module.objective
    encoder.inputs = clock.timed("other inputs", encoder.inputs)
    encoder.band.tangents = clock.timed("spectra, matrix logarithm", encoder.band.tangents)
    encoder.residual = clock.timed("trunk, forward", encoder.residual)
    loss_of = clock.timed("objective, forward", objective)
    blocks = [*encoder.blocks(), ("objective", objective)]
    optimizer = make_optimizer(parameter_groups(blocks, 1e-3, 0.05), (0.9, 0.98))
    parameters = [p for _, block in blocks for p in block.parameters()]
    source = speed.endless(module, BATCH)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def step() -> None:
        batch = clock.timed("reading", next)(source)
        with mixed:
            loss = loss_of(encoder, batch, module.positions).loss
        clock.timed("backward", loss.backward)()
        clock.timed("clipping, optimizer", update)()

    step()
    with FlopCounterMode(display=False) as flops:
        step()
    whole, shares = math.inf, dict[str, float]()
    for _ in range(steps):
        clock.seconds.clear()
        started = speed.now()
        step()
        if (seconds := speed.now() - started) < whole:
            whole, shares = seconds, dict(clock.seconds)
    shares["rest"] = whole - sum(shares.values())
    print(f"\ntraining step, {' + '.join(tokens)} tokens, batch {BATCH}, {name_of(dtype)}: "
          f"{1e3 * whole:.0f} ms, {BATCH / whole:.0f} windows/s")  # fmt: skip
    for name, seconds in sorted(shares.items(), key=lambda one: -one[1]):
        print(f"{name:>26}  {1e3 * seconds:8.1f} ms  {seconds / whole:6.1%}")
    learned = sum(shares[name] for name in ("trunk, forward", "objective, forward", "backward"))
    rate = flops.get_total_flops() / learned / 1e9
    peak = gemm_peak(dtype)
    print(f"learned part: {flops.get_total_flops() / 1e9:.1f} GFLOP a step, {rate:.1f} GFLOP/s, "
          f"{rate / peak:.0%} of the GEMM peak of {peak:.1f}")  # fmt: skip


def drop_from_cache(store: SignalStore) -> None:
    """Let the operating system forget the files of a store, where it can."""
    for path in (store.path / "signals").iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def profile_loading(folder: Path, threads: list[int]) -> None:
    """Print windows read per second."""
    store = reading.make_store(folder / "loading", 8, 4)
    windows = cut_windows(store, WindowParams(seconds=2, stride=2))
    can_drop = hasattr(os, "posix_fadvise")
    print(f"\nloading, {len(windows)} shuffled windows of 129 × 200, windows/s")
    print(f"{'batch':>8}{'threads':>9}{'warm cache':>12}{'cold cache':>12}")
    for size in BATCHES:
        for number in threads:
            torch.set_num_threads(number)
            rates: dict[bool, list[float]] = {False: [], True: []}
            for cold in (False, True, False, True, False, True):
                if cold and not can_drop:
                    continue
                source = reading.WindowReader(store, 200)
                batches = reading.WindowBatches(source, windows, size, shuffle=True)
                if cold:
                    drop_from_cache(store)
                started = time.perf_counter()
                n = sum(len(batch) for batch in batches)
                rates[cold].append(n / (time.perf_counter() - started))
                source.close()
            found = [f"{statistics.median(part):,.0f}" if part else "" for part in rates.values()]
            print(f"{size:8}{number:9}{found[0]:>12}{found[1]:>12}")


def profile_models(python: str | None) -> None:
    """Print the latency of other encoders, and of ours before and after them."""
    if python is None:
        print("\nother models: set BRAINDECODE_PYTHON to measure them")
        return
    print("\nforward pass, 129 × 200, ms at batch 1 and 16, millions of parameters")
    print_ours()
    command = [python, "-W", "ignore", str(OTHER), str(torch.get_num_threads())]
    subprocess.run(command, check=True)
    print_ours()


def print_ours() -> None:
    """Print the latency of our encoders."""
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.model_params import EncoderParams

    positions = torch.nn.functional.normalize(torch.randn(129, 3), dim=1)
    for name, tokens in speed.OURS.items():
        encoder = build_encoder(EncoderParams(tokens=tokens), 100.0, 200).eval()
        found = []
        for size in (1, 16):
            signals, mask = torch.randn(size, 129, 200), torch.ones(size, 129, dtype=torch.bool)
            times = []
            with torch.inference_mode():
                for _ in range(30):
                    started = time.perf_counter()
                    encoder(signals, positions, mask)
                    times.append(time.perf_counter() - started)
            found.append(1e3 * statistics.median(times))
        size = sum(part.numel() for part in encoder.parameters()) / 1e6
        print(f"{name + ' tokens':>22}{found[0]:9.1f}{found[1]:9.1f}{size:9.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=count, default=12)
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--threads", type=count, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = speed.make_store(folder / "store")
        precision = choose_precision("auto", "cpu")
        if "step" in options.only:
            print(f"{options.threads} threads")
            for dtype in [torch.float32] + [torch.bfloat16] * ("bf16" in precision):
                for tokens in speed.OURS.values():
                    profile_step(store, tokens, options.steps, dtype)
        if "speed" in options.only:
            print()
            speed.report_speed(speed.measure_speed(store, precision, options.rounds), precision)
        if "loading" in options.only:
            profile_loading(folder, sorted({1, options.threads}))
            torch.set_num_threads(options.threads)
    if "models" in options.only:
        profile_models(os.environ.get("BRAINDECODE_PYTHON"))


if __name__ == "__main__":
    main()
