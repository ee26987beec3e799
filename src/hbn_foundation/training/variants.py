"""Variants of a trained model that are smaller or faster, and what makes a loaded model one.

A variant is named in the metadata of its checkpoint, so that whatever loads checkpoints gets it.
Its weights lie there as it stores them; a runtime other than eager torch, if any, takes the place
of `Encoder.body`: the tokenisers' projections and the trunk. The front end before them (spatial
maps, cross-spectra, matrix logarithm) and the heads, a few small operations, stay torch in single
precision. ONNX has no operator for eigenvalues, so the matrix logarithm cannot be exported.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.training.variant_names import FP32, NAMES, Name

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder, Parts

#: Key of the metadata that names the variant.
KEY = "variant"
TRUNK = "trunk."
GRAPH, SCALE = "variant.onnx", ".int8_scale"
N_LEVELS = 127


class Variant(NamedTuple):
    """What a variant is."""

    text: str  # one line for readers
    dtype: torch.dtype | None = None  # of the trunk's weights in the file, where not single
    apply: Callable[[Encoder, Mapping[str, Tensor]], None] | None = None  # its runtime
    requires: tuple[str, str] | None = None  # module, and the extra that installs it


def variant_of(metadata: Mapping[str, Any]) -> Name:
    """Name the variant of a checkpoint."""
    name: Name = metadata.get(KEY, {}).get("name", FP32)
    if name not in NAMES:
        raise UserError(f"checkpoint: its variant is {name!r}; expected one of {', '.join(NAMES)}")
    return name


def check_trainable(metadata: Mapping[str, Any]) -> None:
    """Raise a UserError for a checkpoint whose weights are made for inference alone."""
    if (name := variant_of(metadata)) != FP32:
        raise UserError(
            f"checkpoint: the variant {name} is for inference; expected the checkpoint that it was "
            "made from"
        )


def stored(name: Name, weights: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Give the weights as the file of a variant has them.

    Parameters
    ----------
    name
        The variant.
    weights
        In single precision, by name.
    encoder
        With these weights, for a graph of its body.

    Raises
    ------
    UserError
        When a library is missing, or the model cannot be exported.
    """
    variant = VARIANTS[name]
    check_installed(name)
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if variant.dtype is None or TRUNK not in key or not tensor.is_floating_point():
            found[key] = tensor
        elif variant.dtype != torch.int8:
            found[key] = tensor.to(variant.dtype)
        elif tensor.ndim == 2:
            scale = tensor.abs().amax(1, keepdim=True).clamp_min(1e-12) / N_LEVELS
            found[key], found[key + SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            found[key] = tensor
    if name == "onnx":
        found[GRAPH] = torch.frombuffer(bytearray(export_body(encoder)), dtype=torch.uint8)
    return found


def restored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights that a module takes, from those of any variant's file."""
    return {
        key: tensor * weights[key + SCALE] if key + SCALE in weights else tensor
        for key, tensor in weights.items()
        if key != GRAPH and not key.endswith(SCALE)
    }


def apply(encoder: Encoder, metadata: Mapping[str, Any], weights: Mapping[str, Tensor],
          portable: bool = False) -> None:  # fmt: skip
    """Make an encoder, which has the weights already, the variant that a checkpoint names.

    Parameters
    ----------
    encoder
        In evaluation mode.
    metadata, weights
        Of the checkpoint.
    portable
        Only what plain torch can do, as a submission: the weights and the arithmetic of the
        variant, no other runtime.

    Raises
    ------
    UserError
        When the variant needs a library that is not installed.
    """
    name = variant_of(metadata)
    dtype = VARIANTS[name].dtype
    if dtype in (torch.bfloat16, torch.float16):
        encoder.set_arithmetic(str(dtype).removeprefix("torch."))
    run = VARIANTS[name].apply
    if run is not None and not portable:
        check_installed(name)
        run(encoder, weights)


def check_installed(name: Name) -> None:
    """Raise a UserError with the command that installs what a variant needs."""
    if (requires := VARIANTS[name].requires) is None:
        return
    module, extra = requires
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the variant {name} needs {module} ({one_line(error)}): "
            f'pip install "hbn-foundation[{extra}]"'
        ) from None


class _Body(nn.Module):
    """The body of an encoder as a module of plain tensors, for the exporter."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.families = encoder, list(encoder.tokenisers)

    def forward(self, *parts: Tensor) -> Tensor:
        return self.encoder.body(dict(zip(self.families, parts, strict=True)))


def example_parts(encoder: Encoder, n_windows: int = 2) -> Parts:
    """Give what the body takes, of windows of noise."""
    positions = nn.functional.normalize(torch.randn(32, 3), dim=1)
    signals = torch.randn(n_windows, 32, encoder.n_samples)
    return encoder.inputs(signals, positions, torch.ones(n_windows, 32, dtype=torch.bool))


def export_body(encoder: Encoder) -> bytes:
    """Export the body of an encoder, for any number of windows, as an ONNX graph."""
    batch = torch.export.Dim("windows", min=1, max=2**16)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the exporter, about itself
        parts = example_parts(encoder)
        program = torch.onnx.export(
            _Body(encoder).eval(), tuple(parts.values()), dynamo=True, verbose=False,
            dynamic_shapes={"parts": tuple({0: batch} for _ in parts)},
        )  # fmt: skip
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _run_graph(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    """Let ONNX Runtime compute the body, on as many threads as torch has now."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        weights[GRAPH].numpy().tobytes(), options, providers=["CPUExecutionProvider"]
    )
    names, eager = [one.name for one in session.get_inputs()], encoder.body

    def body(parts: Parts) -> Tensor:
        if len(parts) < len(names):  # slow outputs are of band tokens, the graph is of all
            return eager(parts)
        arrays = (part.float().contiguous().numpy() for part in parts.values())
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    encoder.body = body  # type: ignore[method-assign]


def _compile(encoder: Encoder, _: Mapping[str, Tensor]) -> None:
    encoder.body = torch.compile(encoder.body)  # type: ignore[method-assign]


def _cache(encoder: Encoder, _: Mapping[str, Tensor]) -> None:
    if encoder.band is not None:
        encoder.band.electrodes.keep_weights = True


def _quantise(encoder: Encoder, _: Mapping[str, Tensor], config: str) -> None:
    from torchao import quantization

    quantization.quantize_(encoder.trunk, getattr(quantization, config)())


_int8 = partial(_quantise, config="Int8WeightOnlyConfig")
_int8_dynamic = partial(_quantise, config="Int8DynamicActivationInt8WeightConfig")
VARIANTS: dict[Name, Variant] = {
    "fp32": Variant("single precision, as trained"),
    "cached": Variant("spatial maps of a montage made once", apply=_cache),
    "bf16": Variant("trunk in bfloat16", torch.bfloat16),
    "fp16": Variant("trunk in half precision", torch.float16),
    "int8": Variant("trunk's weights in 8 bits", torch.int8, _int8, ("torchao", "int8")),
    "int8_dynamic": Variant(
        "trunk's weights and activations in 8 bits", torch.int8, _int8_dynamic, ("torchao", "int8")
    ),
    "compile": Variant("projections and trunk by torch.compile", apply=_compile),
    "onnx": Variant(
        "projections and trunk by ONNX Runtime", None, _run_graph, ("onnxruntime", "onnx")
    ),
}
