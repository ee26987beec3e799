"""Variants of a checkpoint as checkpoints, and models to call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.progress import say, track
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.variant_names import FP32, Name
from hbn_foundation.training.variants import KEY, VARIANTS, stored, variant_of

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.reader import Unit

Answer = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Outputs (B, K) of signals (B, C, T), positions (C, 3) and usable channels (B, C)."""


def is_finetuned(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has heads."""
    return "targets" in checkpoint.metadata


def make_variant(checkpoint: Checkpoint, name: Name, **about: Any) -> Checkpoint:
    """Make a variant of a checkpoint.

    Parameters
    ----------
    checkpoint
        As trained.
    name, about
        The variant, and what else its metadata are to say.

    Raises
    ------
    UserError
        When the checkpoint is a variant itself, a library is missing, or the device lacks the
        arithmetic.
    """
    if (own := variant_of(checkpoint.metadata)) != FP32:
        raise UserError(f"checkpoint: it is the variant {own} already; expected one as trained")
    _check_device(name)
    encoder = load_encoder(checkpoint)
    if encoder.is_external and VARIANTS[name].dtype is not None:
        raise UserError("an external encoder has no trunk whose weights are known")
    weights = stored(name, checkpoint.weights, encoder)
    origin = {"of": checkpoint.metadata.get("run_id")}
    return Checkpoint(weights, {**checkpoint.metadata, KEY: {"name": name, **origin, **about}})


def make_variants(
    checkpoint: Checkpoint, names: Iterable[Name]
) -> tuple[dict[Name, Checkpoint], dict[Name, str]]:
    """Make variants, fp32 first; return also why others cannot be made."""
    found: dict[Name, Checkpoint] = {}
    failed: dict[Name, str] = {}
    for name in track(list(dict.fromkeys([FP32, *names])), "variants"):
        try:
            found[name] = make_variant(checkpoint, name)
            answer_of(found[name])  # it can be loaded, too
        except Exception as error:  # of a library, which may be anything
            failed[name] = one_line(error)
            found.pop(name, None)
            say(f"{name}: left out, {failed[name]}")
    if FP32 in failed:
        raise UserError(f"checkpoint: {failed[FP32]}")
    return found, failed


def unit_of(checkpoint: Checkpoint) -> Unit:
    """Return the unit of the windows that a checkpoint's model takes."""
    from hbn_foundation.training.finetuned import load_finetuned

    load = load_finetuned if is_finetuned(checkpoint) else load_encoder
    return load(checkpoint).unit


def answer_of(checkpoint: Checkpoint) -> Answer:
    """Load a checkpoint as what a user calls: a model with heads, or an encoder's features."""
    if not is_finetuned(checkpoint):
        encoder = load_encoder(checkpoint)

        def features(signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
            parts = encoder.inputs(signals, positions, mask)
            if encoder.slow is None:
                return encoder.summary(parts)
            # of windows of one recording: nothing that variants differ in goes into those alone
            return encoder.slow_outputs(parts["band"] - parts["band"].mean(0))

        return features
    from hbn_foundation.training.finetuned import load_finetuned

    model = load_finetuned(checkpoint)

    def answer(signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        places = None
        if model.sequence is not None:  # windows that follow each other in one recording
            places = signals.new_zeros(len(signals), 4)
            places[:, 2] = places.new_tensor(range(len(signals)))
            places[:, 3] = 1.0
        signals, mask = model.prepare(signals, mask)
        return model(signals, positions, mask, places=places)

    return answer


def _check_device(name: Name) -> None:
    import torch

    if name == "fp16" and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        raise UserError("this processor has no arithmetic in half precision")
