"""How fast variants are, how long they take to start, and what they take up."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.optimization.cold import BATCH, CHECKPOINT
from hbn_foundation.optimization.params import OptimizationParams
from hbn_foundation.optimization.variants import Answer, answer_of, make_variants, unit_of
from hbn_foundation.progress import say, track
from hbn_foundation.training.supervision.run_folder import WEIGHTS
from hbn_foundation.training.variant_names import FP32, Name
from hbn_foundation.training.variants import VARIANTS

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

WARM_UP = 3
FEWEST_ROUNDS = 20
COLD_SECONDS = 900.0
OF_RECORDING = 3  # passes over the recording


class Inputs(NamedTuple):
    """What all variants are given."""

    signals: Tensor  # (B, C, T) as they are read
    mask: Tensor  # (B, C)
    positions: Tensor  # (C, 3)
    tiles: pd.DataFrame  # windows that tile the longest test recording


def measure_variants(
    checkpoint: Checkpoint, dataset: EEGDataset, params: OptimizationParams
) -> pd.DataFrame:
    """Measure each variant on the same windows, by turns.

    Returns
    -------
    pandas.DataFrame
        A row per variant: `variant`, `what`, `failed` (why, or ""), for each batch size B and
        number of threads T `b<B>_t<T>_<median|p95|p99>_ms`, `windows_per_second` over a whole
        recording on all threads, `cold_start_s` (a fresh process until its first answer),
        `peak_mb` of that process, `file_mb` (10⁶ bytes).
    """
    names = list(dict.fromkeys([FP32, *params.variants]))
    made, failed = make_variants(checkpoint, names)
    inputs = read_inputs(checkpoint, dataset, max(params.batch_sizes))
    rows: dict[Name, dict[str, Any]] = {
        name: {"variant": name, "what": VARIANTS[name].text, "failed": failed.get(name, "")}
        for name in names
    }
    counts = sorted({1, len(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity")
                    else {1, os.cpu_count() or 1})  # fmt: skip
    for threads in counts:
        with torch_threads(threads):
            answers = {name: answer_of(one) for name, one in made.items()}
            for size in params.batch_sizes:
                found = latencies(answers, inputs, size, params)
                for name, times in found.items():
                    rows[name] |= _percentiles(times, f"b{size}_t{threads}")
            if threads == counts[-1]:
                for name, rate in throughputs(answers, checkpoint, dataset, inputs, params).items():
                    rows[name]["windows_per_second"] = rate
    for name, one in track(list(made.items()), "variants in fresh processes"):
        rows[name] |= in_fresh_process(one, inputs, params.cold_start)
    return pd.DataFrame(rows.values())


def read_inputs(checkpoint: Checkpoint, dataset: EEGDataset, n_windows: int) -> Inputs:
    """Read windows of the longest recording of a test subject."""
    import torch

    from hbn_foundation.signals.reader import WindowReader
    from hbn_foundation.signals.windows import tiled

    store, n_samples = dataset.store, checkpoint.metadata["n_samples"]
    tested = dataset.splits.loc[dataset.splits["split"] == "test", "subject"].astype(str)
    recordings = store.recordings
    own = recordings[recordings["subject"].astype(str).isin(tested)]
    among = own if len(own) else recordings
    row = int(among.index.to_numpy()[among["n_samples"].to_numpy().argmax()])
    ranges = store.ranges
    tiles = tiled(ranges[ranges["row"] == row], n_samples, n_samples, store.sfreq)
    tiles = tiles.assign(recording=recordings["recording"][row])
    chosen = np.resize(tiles["start"].to_numpy(), n_windows)
    reader = WindowReader(store, n_samples, unit_of(checkpoint))
    signals, mask = reader.read_scaled(np.full(n_windows, row), chosen)
    reader.close()
    positions = torch.as_tensor(np.array(store.positions), dtype=torch.float32)
    return Inputs(signals, mask, positions, tiles)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use this many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def latencies(
    answers: Mapping[Name, Answer], inputs: Inputs, size: int, params: OptimizationParams
) -> dict[Name, np.ndarray]:
    """Time calls (s) of each variant with `size` windows, by turns."""
    signals, mask = inputs.signals[:size], inputs.mask[:size]
    return by_turns(
        {name: partial(one, signals, inputs.positions, mask) for name, one in answers.items()},
        params.repeats,
        f"calls with {size} windows",
        params.seconds,
    )


def by_turns(
    calls: Mapping[Name, Callable[[], Any]], repeats: int, what: str, seconds: float = math.inf
) -> dict[Name, np.ndarray]:
    """Time calls (s) in rounds of one each, so that what else the machine does meets all alike.

    There are `repeats` rounds, or fewer where they take longer than `seconds`.
    """
    import torch

    found: dict[Name, list[float]] = {name: [] for name in calls}
    gc.collect()
    with torch.inference_mode():
        for call in calls.values():
            for _ in range(WARM_UP):
                call()
        until = time.perf_counter() + seconds
        for number in track(range(repeats), what):
            if number >= FEWEST_ROUNDS and time.perf_counter() > until:
                break
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                found[name].append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in found.items()}


def throughputs(
    answers: Mapping[Name, Answer],
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    inputs: Inputs,
    params: OptimizationParams,
) -> dict[Name, float]:
    """Windows per second of reading a whole recording and answering."""
    from hbn_foundation.signals.batches import WindowBatches
    from hbn_foundation.signals.reader import WindowReader

    n_samples = checkpoint.metadata["n_samples"]
    reader = WindowReader(dataset.store, n_samples, unit_of(checkpoint))
    batches = WindowBatches(reader, inputs.tiles, params.batch_size)

    def whole(answer: Answer) -> Callable[[], Any]:
        return lambda: [answer(one.signals, inputs.positions, one.mask) for one in batches]

    found = by_turns(
        {name: whole(one) for name, one in answers.items()}, OF_RECORDING, "whole recordings"
    )
    reader.close()
    return {name: len(inputs.tiles) / float(np.median(times)) for name, times in found.items()}


def in_fresh_process(checkpoint: Checkpoint, inputs: Inputs, run: bool) -> dict[str, Any]:
    """Save a variant, and let a new interpreter load it and answer once."""
    from safetensors.torch import save_file

    with TemporaryDirectory(prefix="variant-") as name:
        folder = Path(name)
        checkpoint.save(folder / CHECKPOINT)
        found: dict[str, Any] = {"file_mb": (folder / CHECKPOINT / WEIGHTS).stat().st_size / 1e6}
        if not run:
            return found
        tensors = {"signals": inputs.signals.contiguous(), "positions": inputs.positions,
                   "mask": inputs.mask}  # fmt: skip
        save_file(tensors, folder / BATCH)
        # what torch.compile keeps between processes would make it warm
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "hbn_foundation.optimization.cold", name],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            first = process.stdout.readline()
            seconds = time.perf_counter() - started
            rest, _ = process.communicate(timeout=COLD_SECONDS)
    if process.returncode or not first:
        say(f"a fresh process ended with status {process.returncode}")
        return found
    return found | {"cold_start_s": seconds, "peak_mb": json.loads(rest)["peak_mb"]}


def _percentiles(times: np.ndarray, name: str) -> dict[str, float]:
    values = np.percentile(times * 1e3, [50, 95, 99])
    return dict(zip((f"{name}_{one}_ms" for one in ("median", "p95", "p99")), values, strict=True))
