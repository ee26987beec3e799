"""Any module of windows (B, C, T) as an encoder.

Windows of any montage are mapped to the module's own electrodes, scaled, and what the module
makes of them becomes tokens. Its blocks are found by running it once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .encoder import Encoder, Parts
from .spatial import VirtualElectrodes

FAMILY = "external"
FEATURES = "return_features"
BEFORE, BEHIND = "input_layers", "output_layers"
#: κ at which a virtual electrode is the nearest usable channel.
NEAREST = 1000.0


@dataclass(frozen=True)
class ExternalConfig:
    """How a module is fed and read; plain values.

    `directions` are those of its electrodes, named `channels`, in its order. Signals in `unit`
    times `scale` reach it. `arguments` of its forward are given `channels` or `positions`. `layers`
    is the path of the list of its blocks, `feature_axis` that of its output which is the width of a
    token. `made_from` are the values that it is made again from.
    """

    channels: tuple[str, ...]
    directions: tuple[tuple[float, float, float], ...]
    unit: Literal["store", "microvolts"]
    scale: float
    sfreq: float
    n_samples: int
    layers: str | None = None
    feature_axis: int = -1
    arguments: dict[str, str] = field(default_factory=dict)
    takes_features: bool = False
    made_from: dict[str, Any] = field(default_factory=dict)
    tokens: tuple[str, ...] = (FAMILY,)
    hidden_dim: int = 0
    n_slow: int = 0


class Part(nn.Module):
    """One block: modules, each in one block only, and those of their own parameters that are used.

    `members` are by path, `used` are the paths of parameters.
    """

    def __init__(self, members: Mapping[str, nn.Module], used: Collection[str]) -> None:
        super().__init__()
        self.members = tuple(members.values())  # not registered: they may hold other blocks
        for path, member in members.items():
            for name, parameter in member.named_parameters(recurse=False):
                whole = f"{path}.{name}" if path else name
                if whole in used:
                    self.register_parameter(whole.replace(".", "/"), parameter)

    def train(self, mode: bool = True) -> Part:
        """Set the mode of the members, and of nothing that they hold."""
        self.training = mode
        for member in self.members:
            member.training = mode
        return self


class ExternalEncoder(Encoder):
    """An encoder whose tokens are the output of one module, without its head.

    It has no slow outputs, no normalisation to fit and no final norm: what is behind the module's
    layers is its last block. An output that is not (B, F) or (B, …, F) is a ValueError.
    """

    is_external = True
    config: ExternalConfig  # type: ignore[assignment]

    def __init__(self, module: nn.Module, config: ExternalConfig) -> None:
        nn.Module.__init__(self)
        self.sfreq, self.n_samples = config.sfreq, config.n_samples
        self.unit, self.config = config.unit, config
        self.tokenisers, self.trunk = nn.ModuleDict(), nn.ModuleList()
        self.final_norm = nn.Identity()  # type: ignore[assignment]
        self.slow = None
        self.electrodes = VirtualElectrodes(NEAREST, config.directions)
        self.module = module
        with torch.random.fork_rng(devices=[]):
            self._examine()

    def _examine(self) -> None:
        """Run the module on two windows: its tokens, the order of its parts, what is used."""
        starts: dict[str, int] = {}

        def note(name: str) -> Callable[..., None]:
            return lambda *_: starts.__setitem__(name, starts.get(name, len(starts)))

        self.module.eval()
        hooks = [p.register_forward_pre_hook(note(n)) for n, p in self.module.named_modules()]
        windows = torch.randn(2, len(self.config.channels), self.n_samples)
        with torch.enable_grad():
            tokens = self._tokens_of(windows)
        for hook in hooks:
            hook.remove()
        own = {n: one for n, one in self.module.named_parameters() if one.requires_grad}
        if not (own and tokens.requires_grad and tokens.isfinite().all()):
            raise ValueError(
                f"it returned {tokens.dtype}; expected finite numbers that depend on parameters"
            )
        grads = torch.autograd.grad(tokens.sum(), list(own.values()), allow_unused=True)
        self._used = {n for n, grad in zip(own, grads, strict=True) if grad is not None}
        for name, parameter in own.items():
            parameter.requires_grad_(name in self._used)
        self._n_tokens = tokens.shape[1]
        self.config = replace(self.config, hidden_dim=tokens.shape[2])
        self._parts = _parts_of(self.module, starts, self.config.layers, self._used)
        self.module.train(self.training)

    @property
    def n_tokens(self) -> int:
        """How many tokens one window gives."""
        return self._n_tokens

    def inputs(
        self, signals: Tensor, positions: Tensor, mask: Tensor, bands: Tensor | None = None
    ) -> Parts:
        """Scaled signals (B, V, T) of the module's electrodes, from windows of any montage.

        Each is that of the nearest usable channel.
        """
        with torch.autocast(signals.device.type, enabled=False):
            own = self.electrodes(signals.float(), positions.float(), mask)
        return {FAMILY: self.config.scale * own}

    def embed(self, parts: Parts) -> Parts:
        """Tokens (B, N, D): what the module makes of its signals."""
        return {FAMILY: self._tokens_of(parts[FAMILY])}

    def _tokens_of(self, signals: Tensor) -> Tensor:
        config = self.config
        given: dict[str, Any] = {
            "channels": list(config.channels),
            "positions": self.electrodes.directions.expand(len(signals), -1, -1),
        }
        arguments = {name: given[what] for name, what in config.arguments.items()}
        if config.takes_features:
            arguments[FEATURES] = True
        found = self.module(signals, **arguments)
        if isinstance(found, Mapping):
            found = found.get("features", found)
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(signals):
            raise ValueError(
                f"it returned {shape} for windows {list(signals.shape)}; expected (B, F) or "
                "(B, …, F)"
            )
        if found.ndim == 2:
            return found[:, None]
        return found.movedim(config.feature_axis, -1).flatten(1, -2)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from input to output, with each parameter that the tokens depend on once.

        They are what comes before the list of layers, the layers, and what comes behind; or, where
        there is no such list, the module's children in the order in which they run.
        """
        modules = dict(self.module.named_modules())
        return [
            (name, Part({path: modules[path] for path in paths}, self._used))
            for name, paths in self._parts
        ]

    def fit_normalisation(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """Fit nothing: the module takes signals as they are scaled for it."""
        return {}


def _parts_of(
    module: nn.Module, starts: Mapping[str, int], layers: str | None, used: Collection[str]
) -> list[tuple[str, list[str]]]:
    """Divide the modules by path into named blocks, in the order of the calls that `starts` counts.

    What holds no used parameter goes with the block before it. A list of layers that there is not,
    or that is not called, is a ValueError.
    """
    paths = [path for path, _ in module.named_modules()]
    path_of_layers = _largest_list(module, used) if layers is None else layers

    def start(path: str) -> int:
        while path not in starts:  # not called itself, as the projections of an attention
            path = path.rpartition(".")[0]
        return starts[path]

    if path_of_layers is None:
        order = sorted((name for name, _ in module.named_children()), key=start)
        names = [f"block_{number}" for number in range(1, len(order) + 1)]
        place = {path: order.index(path.split(".")[0]) if path else 0 for path in paths}
    else:
        prefix = f"{path_of_layers}."
        inside = [path for path in paths if path.startswith(prefix)]
        called = [starts[path] for path in inside if path in starts]
        if not called:
            raise ValueError(f"layers={path_of_layers!r}: no list of modules that it calls")
        order = list(dict.fromkeys(path.removeprefix(prefix).split(".")[0] for path in inside))
        names = [BEFORE, *(f"block_{number}" for number in range(1, len(order) + 1)), BEHIND]
        place = {
            path: 1 + order.index(path.removeprefix(prefix).split(".")[0])
            if path in inside
            else (0 if start(path) < min(called) else len(order) + 1)
            for path in paths
        }
    parts: list[tuple[str, list[str]]] = []
    first: list[str] = []
    for number, name in enumerate(names):
        members = [path for path in paths if place[path] == number]
        if any(one.rpartition(".")[0] in members for one in used):
            parts.append((name, first + members))
            first = []
        else:
            (parts[-1][1] if parts else first).extend(members)
    return parts


def _largest_list(module: nn.Module, used: Collection[str]) -> str | None:
    """Path of the list of like modules that holds most used parameters; None: less than half."""
    sizes = {name: part.numel() for name, part in module.named_parameters() if name in used}
    found: dict[str, int] = {}
    for path, part in module.named_modules():
        if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1:
            held = [
                sum(size for name, size in sizes.items() if name.startswith(f"{path}.{number}."))
                for number in range(len(part))
            ]
            if all(held) and len({type(child) for child in part}) == 1:
                found[path] = sum(held)
    best = max(found, key=lambda path: found[path], default=None)
    return best if best is not None and 2 * found[best] >= sum(sizes.values()) else None
