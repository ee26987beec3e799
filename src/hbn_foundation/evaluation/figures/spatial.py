"""Topographic maps of the channels that a model relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hbn_foundation.evaluation.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RADIUS = 0.095  # m, of MNE's head


def spatial_figure(
    relevance: np.ndarray, unit: str = "", names: tuple[str, ...] = ("hidden within 30°",)
) -> Figure:
    """Draw the effect of hiding each place.

    Parameters
    ----------
    relevance
        Of `relevance` (M, 19), in the unit.
    unit
        Of the prediction; "" where it has none.
    names
        Titles of the maps (M).
    """
    import mne

    from hbn_foundation.models.spatial import DIRECTIONS_10_20

    places = {name: RADIUS * np.array(place) for name, place in DIRECTIONS_10_20.items()}
    info: Any = mne.create_info(list(places), 100.0, "eeg")
    with style.styled(), mne.utils.use_log_level("ERROR"):
        info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
        width = max(2.6, 4.4 / len(names))  # room for the title
        figure, axes = style.new_figure(1, len(names), panel=(width, 3.1))
        figure.suptitle("Channels that the model relies on", x=0.01, ha="left")
        for panel, name, values in zip(axes, names, relevance, strict=True):
            panel.set_title(name)
            limits = (0.0, float(values.max()) or 1.0)
            image, _ = mne.viz.plot_topomap(
                values, info, axes=panel, show=False, cmap="Blues", vlim=limits, contours=4,
                sphere=(0.0, 0.0, 0.0, RADIUS),
            )  # fmt: skip
            bar = figure.colorbar(image, ax=panel, orientation="horizontal", shrink=0.8, pad=0.03,
                                  ticks=limits, format="{x:.2g}")  # fmt: skip
            bar.set_label(f"shift ({unit or 'units of the label'})", fontsize=8)
    return figure
