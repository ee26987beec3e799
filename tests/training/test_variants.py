"""Variants: what lies in their files, and what is loaded from these."""

import sys
from types import SimpleNamespace

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.training import variants
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.variants import (
    GRAPH,
    KEY,
    VARIANTS,
    apply,
    check_trainable,
    example_parts,
    restored,
    stored,
    variant_of,
)
from small_models import N_SAMPLES, SFREQ, small_encoder

#: Largest relative difference from single precision, and share of its file.
EXPECTED = {"fp32": (0, 1), "cached": (1e-6, 1), "compile": (1e-5, 1), "onnx": (1e-5, 4),
            "bf16": (0.05, 0.9), "fp16": (0.01, 0.9), "int8": (0.05, 0.9),
            "int8_dynamic": (0.05, 0.9)}  # fmt: skip
LAYER = "encoder.trunk.0.feedforward.0.weight"
SLOW = ("compile", "onnx", "int8_dynamic")
LIBRARIES = {"onnx": "onnxscript", "int8": "torchao", "int8_dynamic": "torchao"}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """An encoder with random weights and both families of tokens."""
    encoder = small_encoder("band", "time")
    params = EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=2)
    metadata = {"parameters": {"encoder": params.model_dump(mode="json")},
                "sfreq": SFREQ, "n_samples": N_SAMPLES}  # fmt: skip
    weights = {f"encoder.{name}": part for name, part in encoder.state_dict().items()}
    return Checkpoint(weights, metadata)


def variant(checkpoint: Checkpoint, name: str) -> Checkpoint:
    weights = stored(name, checkpoint.weights, load_encoder(checkpoint))
    return Checkpoint(weights, {**checkpoint.metadata, KEY: {"name": name}})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in EXPECTED],
)
def test_a_variant_answers_as_the_model_does(checkpoint, name, tmp_path):
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    found = Checkpoint.load(variant(checkpoint, name).save(tmp_path / "variant"))
    whole = load_encoder(checkpoint)
    encoder = load_encoder(found)
    parts = example_parts(whole, 5)
    difference, size = EXPECTED[name]
    with torch.inference_mode():
        expected = whole.summary(parts)
        for count in (5, 1):  # any number of windows
            answer = encoder.summary({key: part[:count] for key, part in parts.items()})
            error = (answer - expected[:count]).abs().max() / expected.abs().max()
            assert float(error) <= difference + 1e-6
            assert answer.dtype == torch.float32
    sizes = [sum(p.numel() * p.element_size() for p in one.weights.values())
             for one in (found, checkpoint)]  # fmt: skip
    assert sizes[0] <= size * sizes[1]


def test_all_variants_are_expected():
    assert set(EXPECTED) == set(VARIANTS)


def test_weights_of_8_bits_are_rounded_to_half_a_step(checkpoint, monkeypatch):
    monkeypatch.setattr(variants, "check_installed", lambda name: None)
    found = restored(stored("int8", checkpoint.weights, small_encoder("band", "time")))
    assert found.keys() == checkpoint.weights.keys()
    whole = checkpoint.weights[LAYER]
    step = whole.abs().amax(1, keepdim=True) / 127
    assert ((found[LAYER] - whole).abs() <= step / 2 + 1e-7).all()
    assert (found[LAYER] != whole).any()


def test_a_graph_of_both_families_leaves_slow_outputs_to_the_model(monkeypatch):
    """Those are of band tokens alone, which the graph cannot be run on."""
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=n) for n in "ab"])
    runtime = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=lambda *_, **__: session
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    encoder = small_encoder("band", "time", n_slow=2).eval()
    torch.nn.init.normal_(encoder.slow.beside.weight)
    tangents = example_parts(encoder)["band"]
    expected = encoder.slow_outputs(tangents)
    VARIANTS["onnx"].apply(encoder, {GRAPH: torch.zeros(1, dtype=torch.uint8)})
    torch.testing.assert_close(encoder.slow_outputs(tangents), expected)


def test_a_missing_library_is_one_line_with_its_command(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    metadata = {**checkpoint.metadata, KEY: {"name": "onnx"}}
    with pytest.raises(UserError, match=r'onnxruntime.*pip install "hbn-foundation\[onnx\]"'):
        load_encoder(Checkpoint(checkpoint.weights, metadata))
    apply(load_encoder(checkpoint), metadata, {}, portable=True)  # a submission needs none


def test_a_variant_is_not_trained_further(checkpoint):
    check_trainable(checkpoint.metadata)
    with pytest.raises(UserError, match="bf16 is for inference"):
        check_trainable(variant(checkpoint, "bf16").metadata)
    with pytest.raises(UserError, match="its variant is 'q4'"):
        variant_of({KEY: {"name": "q4"}})
