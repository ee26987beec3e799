"""How published encoders are fed and read: unit, rate, band, channels, patch, blocks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hbn_foundation.models.electrodes import DIRECTIONS_10_20
from hbn_foundation.params import Params


class AdapterParams(Params):
    """What an external module takes, and where its parts are."""

    name: str | None = Field(
        None, description="An adapter of the table; further keys here replace its values."
    )
    sfreq: float | None = Field(
        None, description="Sampling rate in Hz that it was made for; null: any.", gt=0
    )
    l_freq: float | None = Field(
        None, description="Lower edge in Hz of the band that it was trained on, where known.", ge=0
    )
    h_freq: float | None = Field(None, description="Upper edge of it.", gt=0)
    unit: Literal["uV", "V", "z"] = Field(
        "z", description="Unit of its signals: µV, V, or robust z-scores of the signal store."
    )
    scale: float = Field(1.0, description="What signals in that unit are multiplied by.", gt=0)
    channels: tuple[str, ...] = Field(
        tuple(DIRECTIONS_10_20),
        description="Its electrodes in its order, by their names in the 10-05 system or a net. "
        "Each is the channel of the recording that is nearest on the scalp.",
        min_length=1,
    )
    patch_seconds: float | None = Field(
        None, description="A window is a whole number of these; null: any length.", gt=0
    )
    head: str | None = Field(
        None, description="Path of its head, which is taken off, such as final_layer."
    )
    layers: str | None = Field(
        None,
        description="Path of the list of its blocks, such as encoder.layers; null: the list that "
        "holds most of its parameters.",
    )
    feature_axis: int = Field(
        -1, description="Axis of its output which is the width of a token; 1 of convolutions."
    )
    arguments: dict[str, Literal["channels", "positions"]] = Field(
        {},
        description="Further arguments of its forward: the names of the channels, or their "
        "positions (B, C, 3) on the unit sphere.",
    )
    needs: str | None = Field(
        None, description="A file that it would fetch, in MNE's data folder; never fetched here."
    )


_FINAL: dict[str, Any] = {"head": "final_layer"}

#: By name, as in the publications and in braindecode.
ADAPTERS = {
    "plain": AdapterParams(),
    "cbramod": AdapterParams(
        sfreq=200, l_freq=0.3, h_freq=75, unit="uV", scale=0.01, patch_seconds=1,
        layers="encoder.layers", **_FINAL,
    ),
    "labram": AdapterParams(
        sfreq=200, l_freq=0.1, h_freq=75, unit="uV", scale=0.01, patch_seconds=1,
        layers="blocks", arguments={"ch_names": "channels"}, **_FINAL,
    ),
    "biot": AdapterParams(sfreq=200, unit="z", scale=0.5, **_FINAL),
    "eegpt": AdapterParams(
        sfreq=256, h_freq=38, unit="V", scale=1e3, patch_seconds=0.25,
        layers="target_encoder.blocks", **_FINAL,
    ),
    "signaljepa": AdapterParams(
        sfreq=128, l_freq=0.5, h_freq=40, unit="uV", layers="transformer.encoder.layers", **_FINAL
    ),
    "reve": AdapterParams(
        sfreq=200, l_freq=0.5, h_freq=99.5, unit="z", needs="reve_positions.json", **_FINAL
    ),
    "eegnex": AdapterParams(**_FINAL),
}  # fmt: skip


def resolved(adapter: Any) -> Any:
    """Give all values of an adapter that is named, or given with the name it is like.

    What is not of that form is left to be checked by pydantic; an unknown name is a ValueError.
    """
    given = {"name": adapter} if isinstance(adapter, str) else adapter
    if not isinstance(given, dict) or given.get("name") is None:
        return given
    name = str(given["name"]).lower()
    if name not in ADAPTERS:
        raise ValueError(f"no such adapter; known: {', '.join(ADAPTERS)}")
    return {**ADAPTERS[name].model_dump(), **given, "name": name}
