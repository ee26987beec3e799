"""What Lightning needs to resume a training, as one safetensors file: nothing is pickled.

A nested structure of dictionaries, lists, numbers, texts and tensors becomes JSON in the file's
header, in which tensors stand by their name.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor, nn

from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.supervision.run_folder import STATE

TREE = "tree"
TENSOR, TUPLE, PAIRS = "__tensor__", "__tuple__", "__pairs__"


def pack(state: Any) -> bytes:
    """Pack a nested structure.

    Raises
    ------
    TypeError
        When it holds something else than the types above.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}

    def tree(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous()
            return {TENSOR: name}
        if isinstance(value, dict):  # keys may be numbers, as in an optimizer's state
            return {PAIRS: [[tree(key), tree(part)] for key, part in value.items()]}
        if isinstance(value, tuple):
            return {TUPLE: [tree(part) for part in value]}
        if isinstance(value, list):
            return [tree(part) for part in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a training state cannot hold {type(value).__name__}")

    text = json.dumps(tree(state))
    return save(tensors, metadata={TREE: text})


def unpack(path: Path) -> Any:
    """Read what `pack` made."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = file.metadata()[TREE]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def value(tree: Any) -> Any:
        if isinstance(tree, list):
            return [value(part) for part in tree]
        if not isinstance(tree, dict):
            return tree
        if TENSOR in tree:
            return tensors[tree[TENSOR]]
        if TUPLE in tree:
            return tuple(value(part) for part in tree[TUPLE])
        return {value(key): value(part) for key, part in tree[PAIRS]}

    return value(json.loads(text))


class CheckpointFolders(CheckpointIO):
    """Lightning's checkpoints as folders of this project: weights beside the state of training.

    `metadata` returns the metadata of the checkpoint to be written. While `hold` is set, none is
    due: it is kept in memory, for the case that the training is asked to stop in the next epoch.
    """

    def __init__(self, metadata: Callable[[], dict[str, Any]]) -> None:
        self.metadata = metadata
        self.hold = False
        self._held: tuple[Checkpoint, bytes, Any] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write weights and state, or, while `hold` is set, keep them in memory."""
        state = {name: part for name, part in checkpoint.items() if name != "state_dict"}
        weights = {name: part.detach().cpu() for name, part in checkpoint["state_dict"].items()}
        if self.hold:
            weights = {name: part.clone() for name, part in weights.items()}
        self._held = (Checkpoint(weights, self.metadata()), pack(state), path)
        if not self.hold:
            self.save_held()

    def save_held(self) -> None:
        """Write what is held, if anything is."""
        if self._held is not None:
            checkpoint, state, path = self._held
            checkpoint.save(path, state)
            self._held = None

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Read both, in the form that Lightning has written."""
        weights = OrderedDict(Checkpoint.load(path).weights)
        return {**unpack(Path(path) / STATE), "state_dict": weights}

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: checkpoints are removed by the callback that makes them."""


def largest_size(module: nn.Module, also: Iterable[Tensor] = ()) -> tuple[int, int]:
    """Bytes of a module's checkpoint, and of one with AdamW's moments and `also` beside."""

    def size(tensors: Iterable[Tensor]) -> int:
        return sum(part.numel() * part.element_size() for part in tensors)

    weights = size(module.state_dict().values())
    return weights, weights + 2 * size(module.parameters()) + size(also)
