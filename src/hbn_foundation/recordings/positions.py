"""Place the electrodes of a recording on the unit sphere.

A measured position takes precedence over a name: electrodes.tsv with its coordsystem.json comes
first, then the file, then the template of the names. Declared units and axes are often wrong, so
they are checked against the size of a head, the names, and the symmetry of caps; a note names
everything that is read otherwise than declared.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hbn_foundation.recordings.electrodes import (
    FRONT_LEFT_UP,
    Measured,
    is_position,
    measured_electrodes,
    to_metres,
)
from hbn_foundation.recordings.montage import template_name, template_positions
from hbn_foundation.recordings.sphere import angles, to_unit_sphere

AXES_OFF = 30.0
"""Median degrees from the names' positions beyond which axes are doubted."""

AXES_RIGHT = 20.0
MIN_NAMED = 4
MIN_SYMMETRIC = 8


@dataclass
class ElectrodePositions:
    """Positions of electrodes and their sources.

    Attributes
    ----------
    positions
        (C, 3) unit vectors in head coordinates, NaN where unknown.
    sources
        Source of each position, "" for none.
    notes
        What was guessed, corrected or not read, a sentence each.
    """

    positions: np.ndarray
    sources: list[str]
    notes: list[str] = field(default_factory=list)


def place_electrodes(
    names: Sequence[str],
    canonical: Sequence[str | None],
    in_file: np.ndarray,
    root: str | Path,
    path: str,
) -> ElectrodePositions:
    """Place each electrode by its best source.

    Parameters
    ----------
    names
        As the file names them.
    canonical
        Their canonical names, None for names without a known position.
    in_file
        (C, 3) positions in the file in metres, NaN where there are none.
    root, path
        The BIDS root, and the recording relative to it.
    """
    expected = np.full((len(names), 3), np.nan)
    known = [i for i, name in enumerate(canonical) if name is not None]
    expected[known] = template_positions([str(canonical[i]) for i in known])
    found = ElectrodePositions(np.full((len(names), 3), np.nan), [""] * len(names))

    def place(points: np.ndarray, sources: Sequence[str]) -> None:
        for i in np.flatnonzero(~is_position(found.positions) & is_position(points)).tolist():
            found.positions[i], found.sources[i] = points[i], sources[i]

    table = measured_electrodes(names, root, path, found.notes)
    if table is not None:
        place(_on_sphere(table, expected, found.notes), [table.source] * len(names))
    in_file = np.where(is_position(in_file)[:, None], in_file, np.nan)
    if (~is_position(found.positions) & is_position(in_file)).any():
        metres = to_metres(in_file, "m", "positions in the file", found.notes)
        measured = Measured("file", "positions in the file", metres)
        place(_on_sphere(measured, expected, found.notes), ["file"] * len(names))
    place(expected, [f"template {template_name(name)}" if name else "" for name in canonical])
    return found


def _on_sphere(measured: Measured, expected: np.ndarray, notes: list[str]) -> np.ndarray:
    """(C, 3) unit vectors of measured positions, their axes checked; NaN where there are none."""
    unit = np.full_like(measured.points, np.nan)
    placed = is_position(measured.points)
    points, expected = measured.points[placed], expected[placed]
    if is_position(expected).sum() >= MIN_NAMED:
        unit[placed] = _by_names(points, expected, measured, notes)
    elif len(points):
        unit[placed] = _by_symmetry(points, measured, notes)
    return unit


def _by_names(
    points: np.ndarray, expected: np.ndarray, measured: Measured, notes: list[str]
) -> np.ndarray:
    """Convert points to unit vectors, in the order and signs of axes that agree with the names."""
    named = is_position(expected)

    def off(unit: np.ndarray) -> float:
        return float(np.median(angles(unit[named], expected[named])))

    unit = to_unit_sphere(points @ measured.axes.T)
    if off(unit) <= AXES_OFF:
        return unit
    # all 48 orders and signs of the axes
    every = [
        np.diag(signs)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    turned = [(axes, to_unit_sphere(points @ axes.T)) for axes in every]
    axes, best = min(turned, key=lambda pair: off(pair[1]))
    if off(best) < AXES_RIGHT:
        notes.append(f"{measured.what}: by the names of its electrodes {_axes_in_words(axes)}")
        return best
    notes.append(
        f"{measured.what}: positions lie {off(unit):.0f}° (median) from where the names of the "
        "electrodes say; the positions are used"
    )
    return unit


def _by_symmetry(points: np.ndarray, measured: Measured, notes: list[str]) -> np.ndarray:
    """Convert points without known names to unit vectors; caps are symmetric left and right."""
    axes, declared = measured.axes, measured.system != ""
    unit = to_unit_sphere(points @ axes.T)
    if len(points) >= MIN_SYMMETRIC and measured.system is not None:
        across_x, across_y = (_asymmetry(unit, axis) for axis in (0, 1))
        one_side = abs(unit[:, 0].mean()) > 0.2
        if across_y < (0.1 if declared else 0.5) * across_x and not one_side:
            axes = FRONT_LEFT_UP @ axes if (axes == np.eye(3)).all() else np.eye(3)
            words = _axes_in_words(axes)
            notes.append(f"{measured.what}: by the symmetry of its electrodes {words}")
            return to_unit_sphere(points @ axes.T)
    if not declared or measured.axes[0, 0] != 1:
        why = f"{measured.system} has them" if declared else "no axes are declared"
        notes.append(f"{measured.what} has no landmarks: {_axes_in_words(axes)}, as {why}")
    return unit


def _asymmetry(unit: np.ndarray, axis: int) -> float:
    """Mean degrees from an electrode's mirror image to the nearest electrode."""
    mirrored = unit.copy()
    mirrored[:, axis] *= -1
    cosines = np.clip(mirrored @ unit.T, -1, 1)
    return float(np.degrees(np.arccos(cosines.max(axis=1))).mean())


def _axes_in_words(axes: np.ndarray) -> str:
    words = (("right", "left"), ("front", "back"), ("up", "down"))
    named = []
    for column, letter in zip(axes.T, "xyz", strict=True):
        place = int(np.flatnonzero(column)[0])
        named.append(f"{letter} is {words[place][int(column[place] < 0)]}")
    return ", ".join(named)
