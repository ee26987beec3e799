"""Where on the scalp a model looks: patterns of its components, and what hiding places changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.signals.windows import subsample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

NEAR = np.cos(np.deg2rad(30))
MAX_WINDOWS = 64


class SpatialMaps(NamedTuple):
    """Maps of a model over the channels of the layout (C).

    Attributes
    ----------
    relevance
        (M, D) how far each of M predictions moves (root mean square, in its own unit) when the
        channels within 30° of each direction are hidden.
    directions
        (D, 3) unit vectors.
    patterns
        (K, C) how the signal of a component appears at the channels, Cov(x) W Cov(s)⁻¹ (Haufe et
        al. 2014), times the component's standard deviation, so in the unit of the signals: weights
        say how sources are taken apart, patterns where they are.
    importance
        (K,) how far the first prediction moves when a component is taken out.
    """

    relevance: np.ndarray
    directions: np.ndarray
    patterns: np.ndarray
    importance: np.ndarray


def checkpoint_maps(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    targets: tuple[str, ...] = (),
    factor: float = 1.0,
    seed: int = 0,
) -> SpatialMaps:
    """Measure on test windows where on the scalp a fine-tuned model looks.

    Parameters
    ----------
    checkpoint
        Fine-tuned.
    store, windows
        The signals, and windows of test subjects; at most 64 of them are used.
    targets
        Names of targets that are numbers; none: the main one.
    factor
        What predictions are multiplied by, such as 1,000 for ms.
    seed
        Which windows.
    """
    import torch

    from hbn_foundation.models.config import MAIN
    from hbn_foundation.signals.batches import WindowReader
    from hbn_foundation.training.finetuned import load_finetuned

    model = load_finetuned(checkpoint)
    n_samples = checkpoint.metadata["n_samples"]
    reader = WindowReader(store, n_samples, volts=model.input is not None)
    few = windows.iloc[subsample(len(windows), MAX_WINDOWS, seed)]
    signals, mask = reader.read_scaled(few["row"].to_numpy(), few["start"].to_numpy())
    reader.close()
    positions = torch.from_numpy(np.array(store.positions, dtype=np.float32))

    names = targets or (MAIN,)

    def answer(windows: Tensor) -> Tensor:
        present = mask & (windows != 0).any(-1)
        prepared, found = model.prepare(windows, present)
        outputs = model(prepared, positions, found)
        return factor * torch.stack([model.value(outputs, name) for name in names], 1)

    return spatial_maps(model, answer, signals, store.positions)


def spatial_maps(
    model: nn.Module,
    answer: Callable[[Tensor], Tensor],
    windows: Tensor,
    positions: np.ndarray,
) -> SpatialMaps:
    """Measure the maps on some windows.

    Parameters
    ----------
    model
        Any module; its `SpatialComponents`, where it has some, are looked at.
    answer
        Predictions (B,) or (B, M) of windows (B, C, T) by that model; a channel of zeros counts
        as missing.
    windows
        (B, C, T) of test subjects.
    positions
        (C, 3) unit vectors.
    """
    import torch

    from hbn_foundation.models.spatial import DIRECTIONS_10_20, SpatialComponents

    directions = np.array(list(DIRECTIONS_10_20.values()))
    found = [module for module in model.modules() if isinstance(module, SpatialComponents)]
    components = found[0] if found else None
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0].float(), inputs[2], output.float()))

    model.eval()
    with torch.no_grad():
        with _hooked(components, keep):
            usual = answer(windows)
        relevance = []
        for direction in directions:
            hidden = windows.clone()
            hidden[:, torch.from_numpy(positions @ direction > NEAR)] = 0
            relevance.append(_moved(answer(hidden), usual))
        patterns, importance = np.empty((0, windows.shape[1])), np.empty(0)
        if seen:
            patterns = _patterns(*seen[0])
            importance = np.array([_importance(components, k, lambda: answer(windows), usual)
                                   for k in range(len(patterns))])  # fmt: skip
    return SpatialMaps(np.stack(relevance, 1), directions, patterns, importance)


@contextmanager
def _hooked(module: nn.Module | None, hook: Callable[..., Any]) -> Iterator[None]:
    """Register a forward hook while the block runs; without a module, none."""
    handle = None if module is None else module.register_forward_hook(hook)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _moved(changed: Tensor, usual: Tensor) -> np.ndarray:
    """Root mean square difference (M,) of predictions (B,) or (B, M)."""
    difference = (changed - usual).float().reshape(len(usual), -1)
    return difference.square().mean(0).sqrt().cpu().numpy()


def _importance(
    components: nn.Module | None, number: int, run: Callable[[], Tensor], usual: Tensor
) -> float:
    """How far the first prediction moves without a component."""

    def remove(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, number] = 0
        return changed

    with _hooked(components, remove):
        return float(_moved(run(), usual)[0])


def _patterns(signals: Tensor, mask: Tensor, components: Tensor) -> np.ndarray:
    """Patterns (K, C) per standard deviation of a component, over usable windows.

    Cov(x) W is the covariance of channels and components. Components that are correlated share
    it; the inverse of their own covariance tells them apart.
    """
    import torch

    signals = (signals - signals.mean(-1, keepdim=True)).double()
    components = (components - components.mean(-1, keepdim=True)).double()
    own = (components @ components.transpose(1, 2)).mean(0) / signals.shape[-1]
    products = (components @ signals.transpose(1, 2)) / signals.shape[-1]
    present = mask.double()
    crossed = (products * present[:, None]).sum(0) / present.sum(0).clamp_min(1.0)
    patterns = torch.linalg.pinv(own, hermitian=True) @ crossed
    return (patterns * own.diagonal().sqrt()[:, None]).float().cpu().numpy()
