"""Latency of braindecode's models on 129 × 200; `profile.py` runs it by another interpreter."""

from __future__ import annotations

import inspect
import statistics
import sys
import time

import torch
from braindecode import models

NAMES = ("EEGNeX", "EEGConformer", "ShallowFBCSPNet", "CBraMod", "Labram")
GIVEN = {"n_chans": 129, "n_times": 200, "n_outputs": 2, "sfreq": 100}


def latency(model: torch.nn.Module, size: int) -> float:
    signals, times = torch.randn(size, 129, 200), []
    with torch.inference_mode():
        for _ in range(15):
            started = time.perf_counter()
            model(signals)
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    for name in NAMES:
        try:
            kind = getattr(models, name)
            given = {key: GIVEN[key] for key in GIVEN if key in inspect.signature(kind).parameters}
            model = kind(**given).eval()
            found = [latency(model, size) for size in (1, 16)]
        except Exception as error:  # of a model that cannot be made for such windows
            print(f"{name:>22}  {type(error).__name__}: {' '.join(str(error).split())[:70]}")
            continue
        size = sum(part.numel() for part in model.parameters()) / 1e6
        print(f"{name:>22}{found[0]:9.1f}{found[1]:9.1f}{size:9.2f}")


if __name__ == "__main__":
    main()
