"""Latency of braindecode's models on 129 × 200; `profile.py` runs it by another interpreter."""

from __future__ import annotations

import inspect
import statistics
import sys
import time

import torch
from braindecode import models

#: Channels by model; LaBraM knows 128.
CHANNELS = {"EEGNeX": 129, "EEGConformer": 129, "ShallowFBCSPNet": 129, "CBraMod": 129,
            "Labram": 128}  # fmt: skip
GIVEN = {"n_times": 200, "n_outputs": 2, "sfreq": 100}


def latency(model: torch.nn.Module, size: int, n_channels: int) -> float:
    signals, times = torch.randn(size, n_channels, 200), []
    with torch.inference_mode():
        for _ in range(15):
            started = time.perf_counter()
            model(signals)
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    for name, n_channels in CHANNELS.items():
        try:
            kind, given = getattr(models, name), {**GIVEN, "n_chans": n_channels}
            known = inspect.signature(kind).parameters
            model = kind(**{key: value for key, value in given.items() if key in known}).eval()
            found = [latency(model, size, n_channels) for size in (1, 16)]
        except Exception as error:  # of a model that cannot be made for such windows
            print(f"{name:>22}  {type(error).__name__}: {' '.join(str(error).split())[:70]}")
            continue
        size = sum(part.numel() for part in model.parameters()) / 1e6
        print(f"{name:>22}{found[0]:9.1f}{found[1]:9.1f}{size:9.2f}")


if __name__ == "__main__":
    main()
