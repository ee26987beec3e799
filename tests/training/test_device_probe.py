"""The probe takes a real training step and checks it; here the CPU plays the device."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from torch.nn import functional

from hbn_foundation.training import device_probe, device_trial
from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.device_probe import probe

SMALL = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}
PROBE = [sys.executable, "-m", "hbn_foundation.training.device_probe"]


def make_job(name="band_completion", tokens=("band",), n_channels=19, **trainer) -> ProbeJob:
    return ProbeJob.model_validate(
        {
            "encoder": {**SMALL, "tokens": tokens},
            "objective": {"name": name},
            "trainer": {"batch_size": 20, "precision": "32", **trainer},
            "n_channels": n_channels,
        }
    )


@pytest.fixture
def bad_device(monkeypatch):
    """Make the device do something to every module that is moved there."""

    def make(harm):
        def move(module, device):
            with torch.no_grad():
                harm(module)
            return module.to(device)

        monkeypatch.setattr(device_trial, "move", move)

    return make


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("recording_spectra", ("band", "time")),
        ("band_completion", ("band",)),
        ("band_completion", ("band", "time")),
        ("masked_patches", ("time",)),
        ("masked", ("band", "time")),
        ("relative_positioning", ("band",)),
        ("task_classification", ("time",)),
    ],
)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_every_objective_takes_a_step_and_agrees(name, tokens, precision):
    found = probe("cpu", make_job(name, tokens, precision=precision))
    assert found["usable"], found["reason"]
    assert found["loss"] > 0
    assert found["errors"]["tokens"] < 1e-5
    assert found["errors"]["gradient"] < 1e-5
    if precision == "bf16":
        assert 1e-4 < found["errors"]["tokens_bf16"] < 0.02
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    parts = ["import", "query", "architecture", "model", "compare", "step"]
    assert list(found["seconds"]) == parts


@pytest.mark.parametrize(("n_channels", "batch_size"), [(1, 20), (129, 1), (3, 2)])
def test_any_shape_of_batch(n_channels, batch_size):
    found = probe("cpu", make_job(n_channels=n_channels, batch_size=batch_size))
    assert found["usable"], found["reason"]


def test_the_step_has_the_configured_batch_shape_and_changes_the_weights(monkeypatch):
    shapes = []
    real = device_trial.objective_batch

    def spy(objective, batch, device):
        shapes.append(tuple(batch.signals.shape))
        return real(objective, batch, device)

    monkeypatch.setattr(device_trial, "objective_batch", spy)
    job = make_job(n_channels=21)
    trial = device_trial.make_trial(job, "32-true")
    before = [parameter.clone() for parameter in trial.encoder.parameters()]
    device_trial.take_step(trial, job, "cpu")
    assert shapes == [(20, 21, 200)]
    after = list(trial.encoder.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_weight_that_arrives_wrong_is_a_wrong_result(bad_device):
    bad_device(lambda module: next(module.parameters()).view(-1)[0].add_(100.0))
    found = probe("cpu", make_job())
    assert not found["usable"]
    assert found["reason"].startswith("wrong result: tokens of cpu differ from the CPU's by ")
    assert found["errors"]["tokens"] > 1e-3


def wrong_attention(real, condition):
    """Attention that mixes nothing, where the condition on the query holds."""

    def attend(query, key, value):
        return value if condition(query) else real(query, key, value)

    return attend


def test_a_kernel_that_is_wrong_in_the_precision_of_training_alone(monkeypatch):
    real = functional.scaled_dot_product_attention
    harm = wrong_attention(real, lambda query: query.dtype == torch.bfloat16)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", harm)
    assert probe("cpu", make_job(precision="32"))["usable"]
    found = probe("cpu", make_job(precision="bf16"))
    assert found["errors"]["tokens"] < 1e-5
    assert "wrong result: tokens_bf16 of cpu" in found["reason"]


class WrongBackward(torch.autograd.Function):
    """The identity, whose gradient is half of what it should be."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 2


def test_a_gradient_that_is_wrong_though_the_tokens_are_right(bad_device):
    def harm(module):
        if hasattr(module, "trunk"):
            module.trunk[1].register_forward_hook(lambda *args: WrongBackward.apply(args[-1]))

    bad_device(harm)
    found = probe("cpu", make_job())
    assert found["errors"]["tokens"] < 1e-5
    assert "wrong result: gradient of cpu" in found["reason"]


def test_numbers_that_are_not_finite(bad_device):
    bad_device(lambda module: next(module.parameters()).view(-1)[0].fill_(torch.nan))
    found = probe("cpu", make_job())
    assert not found["usable"]
    assert "differ from the CPU's by nan" in found["reason"]
    assert found["errors"]["tokens"] is None
    json.dumps(found, allow_nan=False)


def test_a_step_that_is_not_finite_though_the_comparison_was_right(monkeypatch):
    def harm(module, device):
        if module.training and hasattr(module, "trunk"):  # the objective's step, not the comparison
            module.final_norm.weight.data[0] = torch.inf
        return module

    real = device_trial.compare

    def compare(trial, device):
        errors = real(trial, device)
        monkeypatch.setattr(device_trial, "move", harm)
        return errors

    monkeypatch.setattr(device_trial, "compare", compare)
    found = probe("cpu", make_job())
    assert not found["usable"]
    assert "a training step on cpu gave the loss nan" in found["reason"]
    assert found["loss"] is None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        MemoryError("Unable to allocate 2.00 GiB for an array"),
    ],
)
def test_too_little_memory_is_said_with_what_was_free(monkeypatch, error):
    def take_step(*_):
        raise error

    monkeypatch.setattr(device_trial, "take_step", take_step)
    monkeypatch.setattr(device_probe, "memory_of", lambda _: {"free": 3 * 2**29, "total": 2**33})
    found = probe("cpu", make_job())
    assert not found["usable"]
    assert found["reason"].startswith(
        "too little memory to take a training step of 20 windows; 1.5 GiB were free ("
    )


def test_any_other_error_is_one_line_with_the_part_it_came_from(monkeypatch):
    def compare(*_):
        raise RuntimeError("no kernel image\n  is available " + "x" * 500)

    monkeypatch.setattr(device_trial, "compare", compare)
    reason = probe("cpu", make_job())["reason"]
    assert reason.startswith("it failed to compare 20 windows with the CPU: no kernel image is")
    assert len(reason) < 300


def test_no_gpu_costs_no_model(monkeypatch):
    def find(_):
        warnings.warn("CUDA initialization: the driver is too old", UserWarning, stacklevel=1)

    monkeypatch.setattr(device_probe, "find", find)
    found = probe("cuda", make_job())
    assert not found["usable"]
    assert found["reason"].startswith(f"torch {torch.__version__} finds no CUDA or ROCm GPU")
    assert found["reason"].endswith(" (CUDA initialization: the driver is too old)")
    assert found["warnings"] == ["CUDA initialization: the driver is too old"]
    assert "model" not in found["seconds"]


class TestCard:
    """A card as torch describes it, checked before any of its memory is used."""

    @pytest.fixture
    def card(self, monkeypatch):
        def make(targets, capability=(9, 0), gcn=None):
            monkeypatch.setattr(device_probe, "find", lambda _: "cuda")
            monkeypatch.setattr(device_probe, "name_of", lambda _: "Card")
            monkeypatch.setattr(device_probe, "memory_of", lambda _: {})
            monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: targets)
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
            properties = type("Properties", (), {"gcnArchName": gcn})()
            monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
            monkeypatch.setattr(torch.version, "hip", "6.2" if gcn else None)
            return probe("cuda", make_job())

        return make

    def test_of_an_architecture_without_kernels_is_not_used(self, card):
        found = card(["sm_80", "sm_90"], (12, 0))
        assert not found["usable"]
        assert found["architecture"] == "sm_120"
        assert found["reason"] == (
            "Card: the card is sm_120, but this torch was built for sm_80, sm_90"
        )
        assert "model" not in found["seconds"]

    def test_on_rocm_warns_of_the_override_and_leaves_it_unset(self, card, monkeypatch):
        monkeypatch.delenv("HSA_OVERRIDE_GFX_VERSION", raising=False)
        found = card(["gfx1100"], gcn="gfx1103")
        assert not found["usable"]
        assert found["architecture"] == "gfx1103"
        assert any("HSA_OVERRIDE_GFX_VERSION" in text for text in found["warnings"])
        assert "HSA_OVERRIDE_GFX_VERSION" not in os.environ


def order(seconds=100.0, requested="cpu", **changes) -> str:
    job = make_job(**changes).model_dump(mode="json")
    return json.dumps({"requested": requested, "job": job, "seconds": seconds})


def test_the_last_line_that_it_prints_is_the_answer():
    answer = subprocess.run(
        PROBE, input=order(), capture_output=True, text=True, check=True, timeout=300
    )
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert lines[-1]["usable"]
    assert lines[-1]["versions"]["torch"] == torch.__version__
    phases = [line["phase"] for line in lines]
    assert phases[0] == "import torch"
    assert phases[-2:] == ["take a training step of 20 windows", "end"]


def test_a_probe_whose_parent_is_gone_ends_itself():
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    process.stdin.write(order(seconds=3.0))
    process.stdin.close()
    assert process.wait(90) == -signal.SIGALRM
    assert time.monotonic() - started < 80
    process.stdout.close()


#: A call that never returns and never lets another thread of Python run.
HANGING = """
import ctypes
from hbn_foundation.training import device_probe

def find(_):
    ctypes.PyDLL(None).sleep(100)

device_probe.find = find
device_probe.main()
"""
