"""Choose the arithmetic: bf16 only where the hardware has it."""

from __future__ import annotations

from typing import Literal


def choose_precision(requested: str, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Lightning's name of the precision to train in, for `auto`, `32` or `bf16`.

    `auto` asks what the hardware can do instead of measuring it, so that the same machine always
    decides the same: a GPU from Ampere on; a CPU with AMX tiles or AVX512-BF16. Elsewhere bf16 is
    emulated, several times slower than single precision.
    """
    bf16 = requested == "bf16" or (requested == "auto" and has_bf16(device))
    return "bf16-mixed" if bf16 else "32-true"


def describe_precision(requested: str, device: str) -> str:
    """Say which arithmetic a training uses on a device, and why."""
    if choose_precision(requested, device) == "bf16-mixed":
        slow = "" if has_bf16(device) else ", which emulates bf16: 32 is faster here"
        return f"mixed precision (AMP: bf16 and float32) on {device}{slow}"
    why = ", which has no bf16 of its own for mixed precision (AMP)" if requested == "auto" else ""
    return f"single precision (float32) on {device}{why}"


def has_bf16(device: str) -> bool:
    """Tell whether the device multiplies bf16 matrices in hardware."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in each torch
    return device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)
