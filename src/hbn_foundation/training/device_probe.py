"""What the device probe runs in its own interpreter; the last line it prints is JSON.

Run as `python -m hbn_foundation.training.device_probe auto|cuda|mps`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any


def probe(requested: str) -> dict[str, Any]:
    """Look for a device and take one training step on it.

    Returns
    -------
    dict
        `usable`, `device`, `reason`, `name`, `versions`, `seconds` per part.
    """
    started = time.monotonic()
    import torch

    found: dict[str, Any] = {
        "usable": False,
        "device": "cpu",
        "name": None,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "seconds": {"import": round(time.monotonic() - started, 2)},
    }
    started = time.monotonic()
    device = _find(requested)
    if device is None:
        wanted = "GPU" if requested == "auto" else requested
        return {**found, "reason": f"torch {torch.__version__} finds no {wanted}"}
    found["device"] = device
    found["name"] = torch.cuda.get_device_name(0) if device == "cuda" else device
    found["seconds"]["query"] = round(time.monotonic() - started, 2)
    started = time.monotonic()
    try:
        loss = _step(device)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        return {**found, "reason": f"a training step on {device} failed: {text}"}
    found["seconds"]["step"] = round(time.monotonic() - started, 2)
    if not math.isfinite(loss):
        return {**found, "reason": f"a training step on {device} gave the loss {loss}"}
    return {**found, "usable": True, "reason": f"{found['name']} took a training step"}


def _find(requested: str) -> str | None:
    import torch

    if requested in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    if requested in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return None


def _step(device: str) -> float:
    """Take one forward, backward and optimizer step of a small network."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.GELU(), torch.nn.Linear(64, 1)
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(32, 64, device=device)).square().mean().backward()
    optimizer.step()
    return float(model(torch.randn(32, 64, device=device)).square().mean().detach().cpu())


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])), flush=True)
