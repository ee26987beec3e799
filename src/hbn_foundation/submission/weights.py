"""Weights of a submission: plain tensors by name, and nothing that runs when it is unpickled."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
#: What a pickle of tensors in containers names; all of it only puts numbers together.
PLAIN = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch Size",
    *(
        f"torch {kind}Storage"
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte",
                     "Bool", "ComplexFloat", "ComplexDouble")
    ),
}  # fmt: skip
#: Opcodes by which a pickle takes things whose names do not stand in it in the clear.
OPAQUE = {"EXT1", "EXT2", "EXT4", "PERSID", "INST", "OBJ"}


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Write tensors as `torch.save` does, without anything but their numbers."""
    import torch

    buffer = io.BytesIO()
    plain = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
    torch.save(plain, buffer)
    return buffer.getvalue()


def weights_problem(name: str, content: bytes) -> str | None:
    """Say in one line why a file is not a plain state dict; None when it is, or holds no pickle.

    Nothing is unpickled: the pickle's instructions are read.

    Parameters
    ----------
    name, content
        Of a file of a submission.
    """
    if zipfile.is_zipfile(io.BytesIO(content)):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inner = {n: archive.read(n) for n in archive.namelist() if n.endswith(".pkl")}
                code = [n for n in archive.namelist() if "/code/" in n]
        except (zipfile.BadZipFile, RuntimeError, OSError) as error:
            return f"{name}: damaged ({' '.join(str(error).split())})"
        if code:
            return f"{name}: holds code (a TorchScript archive); expected a plain state dict"
        if not inner:
            return f"{name}: an archive without a state dict; expected what torch.save writes"
    elif name.lower().endswith(WEIGHT_SUFFIXES) or content[:1] == b"\x80":
        return f"{name}: not a state dict as torch.save writes it (a zip with a data.pkl)"
    else:
        return None
    for part in inner.values():
        foreign = next(_foreign(part), None)
        if foreign is not None:
            return f"{name}: its pickle takes {foreign}; expected a plain state dict"
    return None


def _foreign(pickle: bytes) -> Iterator[str]:
    """Yield what a pickle takes besides tensors and containers."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name == "GLOBAL" and argument not in PLAIN:
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":  # of names that may come from anywhere
                yield ".".join(strings[-2:])
            elif opcode.name in OPAQUE:
                yield f"something by the instruction {opcode.name}"
            elif isinstance(argument, str):
                strings.append(argument)
    except ValueError as error:
        yield f"nothing readable ({' '.join(str(error).split())})"
