"""bf16 is used where the hardware has it, or where it is asked for."""

import pytest
import torch

from hbn_foundation.training.precision import choose_precision, has_bf16


@pytest.mark.parametrize(
    ("amx", "avx", "expected"),
    [(True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (False, False, "32-true")],
)
def test_the_cpus_instructions_decide(monkeypatch, amx, avx, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    assert choose_precision("auto", "cpu") == expected
    assert choose_precision("32", "cpu") == "32-true"
    assert choose_precision("bf16", "cpu") == "bf16-mixed"


def test_a_torch_that_cannot_tell_means_32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not has_bf16("cpu")
    assert not has_bf16("mps")
