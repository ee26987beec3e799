"""The node hands the probe the model and the shape of the batches that training will use."""

from types import SimpleNamespace

import pytest

from hbn_foundation.evaluation.recipes import FoundationRecipe
from hbn_foundation.pipelines.foundation import nodes
from hbn_foundation.training import device
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import DeviceParams, ObjectiveParams, TrainerParams

STORE = SimpleNamespace(channel_names=("Fz", "Cz", "Pz"))
DATASET = SimpleNamespace(store=STORE, sfreq=128.0, n_samples=512)


def recipe(**hardware) -> FoundationRecipe:
    return FoundationRecipe(
        encoder=EncoderParams(hidden_dim=64),
        objective=ObjectiveParams(name="masked_patches"),
        trainer=TrainerParams(batch_size=8),
        hardware=DeviceParams(**hardware),
    )


def test_the_probe_gets_the_configured_model_and_shape(monkeypatch):
    orders = []

    def probe(hardware, job, _):
        orders.append((hardware, job))
        return {"usable": True, "device": "cuda", "seconds": {"total": 1.0}}, None

    monkeypatch.setattr(device, "_probe", probe)
    asked = recipe(device="cuda", timeout_seconds=5.0)
    plan = nodes.choose_device(DATASET, asked)
    assert plan["chosen"] == "cuda"
    [(hardware, job)] = orders
    assert hardware == asked.hardware
    assert (job.encoder, job.objective) == (asked.encoder, asked.objective)
    assert job.trainer == asked.trainer
    assert (job.n_channels, job.sfreq, job.n_samples) == (3, 128.0, 512)


def test_the_cpu_is_chosen_without_a_probe(monkeypatch):
    monkeypatch.setattr(device, "_probe", lambda *_: pytest.fail("probed"))
    plan = nodes.choose_device(DATASET, recipe(device="cpu"))
    assert (plan["chosen"], plan["reason"]) == ("cpu", "asked for")
