"""A fresh process that loads a checkpoint and answers once: `python -m … FOLDER`.

It prints a line at its first answer, of one window, and a second one with its peak memory after
an answer of all windows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CHECKPOINT, BATCH = "checkpoint", "batch.safetensors"


def main(folder: Path) -> None:
    """Load, answer one window, then all."""
    import torch
    from safetensors.torch import load_file

    from hbn_foundation.optimization.variants import answer_of
    from hbn_foundation.training.checkpoint import Checkpoint

    batch = load_file(folder / BATCH)
    answer = answer_of(Checkpoint.load(folder / CHECKPOINT))
    with torch.inference_mode():
        answer(batch["signals"][:1], batch["positions"], batch["mask"][:1])
        print("answered", flush=True)
        answer(batch["signals"], batch["positions"], batch["mask"])
    print(json.dumps({"peak_mb": peak_memory() / 1e6}))


def peak_memory() -> float:
    """Largest resident memory of this process so far in bytes; where unknown, that of now.

    `ru_maxrss` would also count the parent's before this program began.
    """
    import psutil

    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text().splitlines()
        return 1024.0 * next(int(one.split()[1]) for one in lines if one.startswith("VmHWM:"))
    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
