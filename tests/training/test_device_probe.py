"""The probe takes a real training step and checks it; here the CPU plays the device."""

import json
import os
import re
import warnings

import pytest
import torch
from torch.nn import functional

from hbn_foundation.training import device_probe, device_trial
from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.device_probe import probe

SMALL = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}


def make_job(name="band_completion", tokens=("band",), n_channels=19, **trainer) -> ProbeJob:
    return ProbeJob.model_validate(
        {
            "encoder": {**SMALL, "tokens": tokens, "n_slow": 2 if "slow" in name else 0},
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
        ("slow_features", ("band",)),
        ("slow_prediction", ("band",)),
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
    parts = ["import", "query", "model", "compare", "step"]
    assert list(found["seconds"]) == parts


@pytest.mark.parametrize(("n_channels", "batch_size"), [(1, 20), (129, 1), (3, 2)])
def test_the_step_has_the_configured_batch_shape_and_changes_the_weights(
    monkeypatch, n_channels, batch_size
):
    shapes = []

    def make_trial(*arguments):
        trials.append(make(*arguments))
        trials[0].objective.register_forward_pre_hook(
            lambda _, given: shapes.append(tuple(given[1].signals.shape))
        )
        before.extend(parameter.clone() for parameter in trials[0].encoder.parameters())
        return trials[0]

    make, trials, before = device_trial.make_trial, [], []
    monkeypatch.setattr(device_trial, "make_trial", make_trial)
    found = probe("cpu", make_job(n_channels=n_channels, batch_size=batch_size))
    assert found["usable"], found["reason"]
    assert shapes == [(batch_size, n_channels, 200)]
    after = trials[0].encoder.parameters()
    assert not all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(("value", "error"), [(100.0, r"\d.*"), (torch.nan, "nan")])
def test_a_weight_that_arrives_wrong_is_a_wrong_result(bad_device, value, error):
    bad_device(lambda module: next(module.parameters()).view(-1)[0].add_(value))
    found = probe("cpu", make_job())
    assert not found["usable"]
    text = f"wrong result: tokens of cpu differ from the CPU's by {error} of their norm, at most"
    assert re.match(text, found["reason"])
    json.dumps(found, allow_nan=False)


def test_a_kernel_that_is_wrong_in_the_precision_of_training_alone(monkeypatch):
    real = functional.scaled_dot_product_attention

    def attend(query, key, value):
        return value if query.dtype == torch.bfloat16 else real(query, key, value)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attend)
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


def test_too_little_memory_is_said_with_what_was_free(monkeypatch):
    def take_step(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

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


def test_an_override_of_the_architecture_is_warned_about_and_never_set(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.2")
    monkeypatch.delenv(device_probe.OVERRIDE, raising=False)
    assert probe("cpu", make_job())["warnings"] == []
    assert device_probe.OVERRIDE not in os.environ
    monkeypatch.setenv(device_probe.OVERRIDE, "11.0.0")
    assert probe("cpu", make_job())["warnings"] == [
        "HSA_OVERRIDE_GFX_VERSION=11.0.0 makes the card pass for another; "
        "results may be wrong, and the GPU may hang"
    ]
