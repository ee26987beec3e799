"""Make an encoder of a module of another package, and load its published weights.

The class is imported by name from what is installed: that runs its package's code.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.models.external import FEATURES, ExternalConfig, ExternalEncoder
from hbn_foundation.training.adapters import AdapterParams
from hbn_foundation.training.weights import check_shapes, read_weights

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.model_params import EncoderParams

#: What the reader gives and by what it is multiplied, for each unit of an adapter.
UNITS = {"uV": ("microvolts", 1.0), "V": ("microvolts", 1e-6), "z": ("store", 1.0)}
#: Degrees from a channel to the electrode that it is taken from, beyond which a line says so.
FAR = 30.0


def build_external(params: EncoderParams, sfreq: float, n_samples: int) -> ExternalEncoder:
    """Make the module with random weights, as an encoder.

    Raises
    ------
    UserError
        One line: a class that cannot be imported or made, channels without a known position,
        a rate or length that it does not take, an output that is no tokens.
    """
    import torch

    adapter, where = params.adapter or AdapterParams(), f"encoder.target={params.target}"
    _check_windows(adapter, where, sfreq, n_samples)
    named = _class_of(str(params.target))
    channels, directions = adapter.channels, directions_of(adapter.channels)
    unit, factor = UNITS[adapter.unit]
    try:
        # the module is run with gradients once, wherever it is made
        with torch.inference_mode(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = named(**{**_arguments(named, channels, sfreq, n_samples), **params.kwargs})
            _take_off(module, adapter.head)
            config = ExternalConfig(
                channels=channels, directions=directions, unit=unit,  # type: ignore[arg-type]
                scale=factor * adapter.scale, sfreq=sfreq, n_samples=n_samples,
                layers=adapter.layers, feature_axis=adapter.feature_axis,
                arguments=dict(adapter.arguments),
                takes_features=FEATURES in inspect.signature(module.forward).parameters,
                made_from=params.model_dump(mode="json"),
            )  # fmt: skip
            return ExternalEncoder(module, config)
    except Exception as error:  # whatever the package raises
        raise UserError(f"{where}: {one_line(error)}") from error


def _arguments(
    named: Any, channels: tuple[str, ...], sfreq: float, n_samples: int
) -> dict[str, Any]:
    """Return what a class is told of the windows, as far as it asks."""
    accepted = inspect.signature(named).parameters
    given: dict[str, Any] = {
        "n_chans": len(channels), "n_times": n_samples, "sfreq": sfreq, "n_outputs": 2
    }  # fmt: skip
    if "chs_info" in accepted:
        given["chs_info"] = _channel_information(channels, sfreq)
    return {name: value for name, value in given.items() if name in accepted}


def _take_off(module: nn.Module, head: str | None) -> None:
    """Replace the head at a path, if any, by nothing."""
    from torch import nn

    if head is None:
        return
    path, _, name = head.rpartition(".")
    parent = module.get_submodule(path)
    if not hasattr(parent, name):
        raise ValueError(f"it has no head {head!r} (encoder.adapter.head)")
    setattr(parent, name, nn.Identity())


def _class_of(target: str) -> Any:
    """Import a class by name."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise UserError(f"encoder.target={target}: expected package.module:Class")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the package raises
        raise UserError(
            f"encoder.target={target}: cannot be imported ({one_line(error)}); is its package "
            "installed here?"
        ) from None


def _check_windows(adapter: AdapterParams, where: str, sfreq: float, n_samples: int) -> None:
    if adapter.sfreq is not None and sfreq != adapter.sfreq:
        band = ", ".join(
            f"{name}={value:g}"
            for name in ("l_freq", "h_freq")
            if (value := getattr(adapter, name)) is not None
        )
        raise UserError(
            f"{where}: made for signals at {adapter.sfreq:g} Hz, found {sfreq:g} Hz; expected "
            f"ingestion.cleaning.sfreq={adapter.sfreq:g}" + (f" (with {band})" if band else "")
        )
    patch = (adapter.patch_seconds or 0) * sfreq
    if patch and (n_samples < patch or abs(n_samples / patch - round(n_samples / patch)) > 1e-6):
        raise UserError(
            f"{where}: takes windows of whole patches of {adapter.patch_seconds:g} s, found "
            f"{n_samples / sfreq:g} s; expected ingestion.windows.seconds to be a multiple"
        )
    if adapter.needs is not None:
        import mne

        folder = mne.get_config("REVE_POSITIONS_PATH") or mne.get_config("MNE_DATA")
        file = Path(folder or Path.home() / "mne_data", adapter.needs)
        if not file.is_file():
            raise UserError(f"{where}: needs {file}, which it would fetch; put it there first")


def directions_of(names: tuple[str, ...]) -> tuple[tuple[float, float, float], ...]:
    """Return unit vectors of electrodes; one without a known position is a UserError."""
    from hbn_foundation.recordings.montage import canonical_names, template_positions

    found = []
    for name, canonical in zip(names, canonical_names(names), strict=True):
        try:
            found.append(template_positions([str(canonical)])[0])
        except KeyError:
            raise UserError(
                f"encoder.adapter.channels: {name!r} has no known position; expected names of the "
                "10-05 system or a net"
            ) from None
    return tuple((float(x), float(y), float(z)) for x, y, z in found)


def _channel_information(channels: tuple[str, ...], sfreq: float) -> list[dict[str, Any]]:
    """Describe electrodes as MNE does in `info["chs"]`."""
    import mne

    info = mne.create_info(list(channels), sfreq, "eeg")
    info.set_montage("standard_1005", on_missing="ignore", match_case=False, verbose="ERROR")
    return list(info["chs"])


def load_published(encoder: ExternalEncoder, params: EncoderParams) -> None:
    """Load the file of weights that the parameters name, if any; those of its head are left out.

    Raises
    ------
    UserError
        No such file, one that is not of weights, or naming the first key that differs, with both
        shapes.
    """
    if params.weights is None:
        return
    found = read_weights(Path(params.weights))
    renamed = getattr(encoder.module, "mapping", None) or {}
    head = params.adapter.head if params.adapter is not None else None
    weights = {
        renamed.get(name, name): tensor
        for name, tensor in found.items()
        if head is None or not renamed.get(name, name).startswith(f"{head}.")
    }
    check_shapes(encoder.module, weights, f"encoder.weights={params.weights}", "the file")
    encoder.module.load_state_dict(weights)


def check_store(params: EncoderParams, store: SignalStore) -> Iterator[str]:
    """Check that recordings hold what a module was trained on; yield advice, a line each.

    Raises
    ------
    UserError
        Recordings that were sampled more slowly than the module's rate: raising the rate brings
        nothing that they lack.
    """
    import numpy as np

    adapter, table = params.adapter or AdapterParams(), store.recordings
    if params.weights is not None:
        yield "on whom its weights were trained is not known; subjects here may be among them"
    if "sfreq_file" in table and adapter.sfreq is not None:
        slow = table[table["sfreq_file"] < adapter.sfreq]
        if len(slow):
            name, rate = slow.iloc[0][["recording", "sfreq_file"]]
            raise UserError(
                f"encoder.target={params.target}: made for {adapter.sfreq:g} Hz, and {len(slow)} "
                f"of {len(table)} recordings were sampled more slowly ({name}: {rate:g} Hz); they "
                "lack the upper part of its band. Leave them out (ingestion.selection)"
            )
    for key, wanted in (("l_freq", adapter.l_freq), ("h_freq", adapter.h_freq)):
        here = store.cleaning.get(key)
        if wanted is not None and here is not None and here != wanted:
            yield (
                f"trained on signals with ingestion.cleaning.{key}={wanted:g}, which is "
                f"{here:g} here"
            )
    cosines = np.array(directions_of(adapter.channels)) @ np.asarray(store.positions, dtype=float).T
    distances = np.degrees(np.arccos(np.clip(cosines.max(1), -1, 1)))
    for name, distance in zip(adapter.channels, distances, strict=True):
        if distance > FAR:
            yield f"{name} is taken from a channel {distance:.0f}° away, the nearest"
