"""Topographic maps of the channels that a model relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hbn_foundation.evaluation.figures.style import heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hbn_foundation.evaluation.spatial_maps import SpatialMaps

MAX_MAPS = 6
RADIUS = 0.095  # m, of MNE's head
LOWEST = -0.3
"""Electrodes of face and neck lie lower and are left out."""


def spatial_figure(
    maps: SpatialMaps,
    positions: np.ndarray,
    unit: str = "ms",
    names: tuple[str, ...] = ("hidden within 30°",),
) -> Figure:
    """Draw the effect of hiding each place, and the patterns of the most important components.

    Parameters
    ----------
    maps
        Of `spatial_maps`; relevance and importance in the unit.
    positions
        (C, 3) unit vectors of the channels.
    unit
        Of the prediction; "" where it has none.
    names
        Titles of the maps of relevance, one for each prediction.
    """
    order = np.argsort(maps.importance)[::-1][: max(MAX_MAPS - len(names), 2)]
    unit = unit or "units of the label"
    with styled():
        figure, axes = new_figure(1, len(names) + len(order), panel=(11.1 / MAX_MAPS, 3.1))
        heading(
            figure,
            "Channels that the model relies on",
            "Blue: how far the prediction moves when channels within 30° of a place are hidden"
            + ("; red and blue: patterns of the learned components" if len(order) else ""),
        )
        for panel in axes:
            panel.set_axis_off()
        for panel, name, relevance in zip(axes, names, maps.relevance, strict=False):
            panel.set_title(name, fontsize=9)
            limits = (0.0, float(relevance.max()) or 1.0)
            _map(panel, relevance, maps.directions, "Blues", limits, f"shift ({unit})")
        for panel, number in zip(axes[len(names) :], order, strict=True):
            pattern = maps.patterns[number]
            panel.set_title(f"component {number + 1}", fontsize=9)
            most = float(np.abs(pattern).max()) or 1.0
            moved = f"without it: {_two_digits(maps.importance[number])} {unit}"
            label = f"signal units per sd\n{moved}"
            _map(panel, pattern, positions, "RdBu_r", (-most, most), label)
    return figure


def _map(
    panel: Axes, values: np.ndarray, places: np.ndarray, colours: str,
    limits: tuple[float, float], label: str,
) -> None:  # fmt: skip
    """Draw one map and its colour bar; a montage of the places lets MNE project them."""
    import mne

    high = np.asarray(places)[:, 2] > LOWEST
    values, places = values[high], places[high]
    names = [f"c{number}" for number in range(len(places))]
    info: Any = mne.create_info(names, 100.0, "eeg")
    points = {name: RADIUS * np.asarray(place) for name, place in zip(names, places, strict=True)}
    with mne.utils.use_log_level("ERROR"):
        info.set_montage(mne.channels.make_dig_montage(points, coord_frame="head"))
        image, _ = mne.viz.plot_topomap(
            values, info, axes=panel, show=False, cmap=colours, vlim=limits, contours=4,
            sphere=(0.0, 0.0, 0.0, RADIUS), sensors="k." if len(places) < 40 else False,
        )  # fmt: skip
    bar = panel.figure.colorbar(image, ax=panel, orientation="horizontal", shrink=0.8, aspect=14,
                                pad=0.03, ticks=limits)  # fmt: skip
    bar.ax.set_xticklabels([_two_digits(end) for end in limits], fontsize=7)
    bar.set_label(label, fontsize=7.5)
    bar.outline.set_visible(False)


def _two_digits(value: float) -> str:
    """Write a number to two digits, without a power of ten where it has more before the point."""
    return f"{float(f'{value:.2g}'):g}"
