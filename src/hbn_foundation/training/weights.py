"""Weights by name: those of published files, and whether they are a module's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hbn_foundation.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Where files of weights keep them beside other things.
NESTED = ("state_dict", "model_state_dict", "model")


def check_shapes(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, source: str, prefix: str = ""
) -> None:
    """Check that weights are a module's, by name and shape; else name the first that differs.

    Raises
    ------
    UserError
        With `where` they are from, `source` in words, and what their names begin with.
    """
    expected = module.state_dict()
    for name in [*expected, *weights]:
        here = list(expected[name].shape) if name in expected else "absent"
        there = list(weights[name].shape) if name in weights else "absent"
        if here != there:
            found = f"{prefix}{name} is {there} in {source} and {here} in the model"
            raise UserError(f"{where}: {found}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read tensors by name from a file of safetensors or of torch; nothing else is unpickled."""
    import torch
    from safetensors.torch import load

    try:
        if file.suffix == ".safetensors":
            return dict(load(file.read_bytes()))
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"encoder.weights={file}: no such file") from None
    except Exception as error:
        raise UserError(
            f"encoder.weights={file}: no safetensors and no file of tensors alone "
            f"({one_line(error, 120)})"
        ) from None
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        raise UserError(f"encoder.weights={file}: holds a {kind}, expected tensors by name")
    for name in NESTED:
        if isinstance(found.get(name), Mapping):
            found = found[name]
    return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}


def weights_digest(file: str) -> str:
    """Hash the content of a file of weights; its path does not matter."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        raise UserError(f"encoder.weights={file}: no such file") from None
