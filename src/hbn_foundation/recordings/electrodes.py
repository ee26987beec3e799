"""Read measured positions of electrodes: electrodes.tsv with its coordsystem.json."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids import entities, sidecars
from hbn_foundation.recordings.montage import match_names
from hbn_foundation.recordings.sphere import head_radius
from hbn_foundation.sidecars import UnreadableSidecar, number, read_json, read_rows

RADII = (0.05, 0.15)
"""Least and greatest radius of a head in metres."""

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
FRONT_LEFT_UP = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""Takes x front, y left, z up to head coordinates (x right, y front, z up)."""

FRONT_LEFT_UP_SYSTEMS = frozenset({"ctf", "4dbti", "kityokogawa", "eeglab", "eeglabhj"})
TEMPLATE_SYSTEMS = ("mni", "fsaverage", "icbm", "ixi", "talairach", "acpc", "oasis", "fslr")
"""Beginnings of the names of systems whose axes follow the commissures: head coordinates, whose
axes follow nasion and ears, are rotated by 13° against them."""

TEMPLATE_LANDMARKS = np.array(
    [
        (0.0015, 0.0851, -0.0348),
        (-0.0806, -0.0291, -0.0413),
        (0.0844, -0.0285, -0.0413),
    ]
)
"""Nasion and preauricular points of MNE's fsaverage in MNI coordinates, in metres."""

DIRECTIONS = {"r": (1, 0, 0), "a": (0, 1, 0), "s": (0, 0, 1)}
DIRECTIONS |= {"l": (-1, 0, 0), "p": (0, -1, 0), "i": (0, 0, -1)}
"""Letters of an orientation such as RAS: where x, y and z grow, in head coordinates."""

UNDECLARED = frozenset({"", "na", "other"})
LANDMARKS = ({"nas", "nasion", "nz"}, {"lpa"}, {"rpa"})
MISSING = frozenset({"", "n/a", "nan"})

LARGEST = 1e4
"""Greatest coordinate of a position in any unit."""

FAR = 3.0
"""Greatest distance from the middle of all electrodes, in medians; on a head it is below 2."""

MIN_FLAT = 8
"""Least number of electrodes that cannot lie in one plane of a head."""


@dataclass(frozen=True)
class Measured:
    """Measured positions (C, 3) in metres, NaN for none.

    `axes` (3, 3) take them to the axes of head coordinates, as far as is declared by `system`: ""
    for none, None if the points are known to be in head coordinates. `what` names them in notes.
    """

    source: str
    what: str
    points: np.ndarray
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    system: str | None = None


def is_position(points: np.ndarray) -> np.ndarray:
    """(C,) whether points (C, 3) are positions: finite and not too large."""
    return (np.abs(points) < LARGEST).all(axis=1)


def measured_electrodes(
    names: Sequence[str], root: str | Path, path: str, notes: list[str]
) -> Measured | None:
    """Read the nearest electrodes.tsv that has any of the electrodes, in metres."""
    for file in sidecars(root, path, "electrodes.tsv"):
        rows = read_rows(file, notes, "positions")
        if rows is None:
            continue
        if not rows or not {"name", "x", "y", "z"} <= rows[0].keys():
            notes.append(f"{file.name}: expected columns name, x, y, z; no positions from it")
            continue
        numbers = _coordinates([[row[axis] for axis in "xyz"] for row in rows], file.name, notes)
        matched = match_names(names, [row["name"] for row in rows])
        points = np.full((len(names), 3), np.nan)
        points[list(matched)] = numbers[list(matched.values())]
        if not matched:
            notes.append(f"{file.name} names no channel of the file: no positions from it")
        elif not is_position(points).any():
            notes.append(f"{file.name} has x, y and z of no channel: no positions from it")
        else:
            rows_by_name = {row["name"]: numbers[i] for i, row in enumerate(rows)}
            return _in_head_coordinates(points, rows_by_name, file, root, path, notes)
    return None


def _coordinates(cells: list[list[str]], file: str, notes: list[str]) -> np.ndarray:
    """(N, 3) numbers of cells, NaN for other text; a row of zeros is NaN, too."""
    if any(re.fullmatch(r"[+-]?\d*,\d+(e[+-]?\d+)?", c, re.I) for row in cells for c in row):
        notes.append(f"{file} has decimal commas")
    numbers = np.array([[number(cell) for cell in row] for row in cells])
    strange = [
        cell
        for cell, value in zip(itertools.chain(*cells), numbers.flat, strict=True)
        if np.isnan(value) and cell.lower() not in MISSING
    ]
    beyond = ~is_position(numbers) & ~np.isnan(numbers).any(axis=1)
    strange += [" ".join(cells[i]) for i in np.flatnonzero(beyond).tolist()]
    if strange:
        notes.append(f"{file}: no coordinates: {', '.join(strange[:3])}")
    numbers[~is_position(numbers) | ~numbers.any(axis=1)] = np.nan
    return numbers


def _in_head_coordinates(
    points: np.ndarray,
    rows: Mapping[str, Any],
    file: Path,
    root: str | Path,
    path: str,
    notes: list[str],
) -> Measured:
    """Convert the positions of electrodes.tsv to metres and to the axes of head coordinates."""
    system, declared = _coordinate_system(file, root, path, notes)
    unit = str(declared.get("EEGCoordinateUnits", ""))
    metres = to_metres(points, unit, file.name, notes)
    plain = re.sub(r"[^a-z0-9]", "", system.lower())
    axes = FRONT_LEFT_UP if plain in FRONT_LEFT_UP_SYSTEMS else _orientation(plain)
    own = Measured("electrodes.tsv", file.name, metres, axes, "" if plain in UNDECLARED else system)
    if not is_position(metres).any():
        return own
    given = declared.get("AnatomicalLandmarkCoordinates")
    landmarks = _landmarks(given if isinstance(given, Mapping) else rows)
    if landmarks is None and plain.startswith(TEMPLATE_SYSTEMS):
        head = _by_landmarks(metres, TEMPLATE_LANDMARKS)
        return own if head is None else Measured(own.source, file.name, head, system=system)
    if landmarks is None:
        return own
    head = _by_landmarks(metres, landmarks)
    if head is None:
        notes.append(f"{file.name}: its landmarks (NAS, LPA, RPA) fit no head and are not used")
        return own
    if own.system and _turned(head, metres @ axes.T):
        notes.append(f"{file.name}: its landmarks contradict {system}'s axes; the landmarks count")
    return Measured(own.source, file.name, head)


def _orientation(plain: str) -> np.ndarray:
    """(3, 3) axes of an orientation such as ``ras``; those of head coordinates for other names."""
    if len(plain) == 3 and set(plain) <= DIRECTIONS.keys():
        axes = np.array([DIRECTIONS[letter] for letter in plain], float).T
        if abs(np.linalg.det(axes)) == 1:
            return axes
    return np.eye(3)


def _coordinate_system(
    file: Path, root: str | Path, path: str, notes: list[str]
) -> tuple[str, dict[str, Any]]:
    """Name of the coordinate system of an electrodes.tsv, and all of its coordsystem.json."""
    space = entities(file.name).get("space", "")
    files = sidecars(root, path, "coordsystem.json")
    own = [f for f in files if entities(f.name).get("space", "") == space]
    found = next(iter(own or (files if len(files) == 1 else [])), None)
    if found is None:
        notes.append(f"{file.name} has no coordsystem.json")
        return space, {}
    try:
        content = read_json(found)
    except UnreadableSidecar as error:
        notes.append(f"{error}: the axes of {file.name} are not known")
        return space, {}
    return str(content.get("EEGCoordinateSystem") or space), content


def to_metres(points: np.ndarray, unit: str, what: str, notes: list[str]) -> np.ndarray:
    """Scale points to the size of a head; all NaN where no power of ten does.

    Outliers become NaN.
    """
    rows = points[is_position(points)]
    if len(rows) >= MIN_FLAT:
        away = np.linalg.norm(points - np.median(rows, axis=0), axis=1)
        outside = away > FAR * np.median(away[is_position(points)])
        if outside.any():
            notes.append(
                f"{what}: {outside.sum()} electrodes lie far outside the head: no positions of "
                "these from it"
            )
            points = np.where(outside[:, None], np.nan, points)
            rows = points[is_position(points)]
    spread = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    if len(rows) >= MIN_FLAT and spread[-1] < 1e-3 * spread[0]:
        notes.append(f"{what}: all electrodes lie in a plane; no positions from it")
        return np.full_like(points, np.nan)
    declared = unit.strip().lower()
    factor = UNITS.get(declared, 1.0)
    radius = head_radius(rows) * factor
    for power in (0, -3, -2, -1, 1, 2, 3):
        if RADII[0] <= radius * 10.0**power <= RADII[1]:
            break
    else:
        notes.append(
            f"{what}: a head with a radius of {100 * radius:.3g} cm, expected 5 to 15 cm; no "
            "positions from it"
        )
        return np.full_like(points, np.nan)
    if power:
        said = (unit or "m") if unit.lower() in ("", *UNITS) else repr(unit)
        notes.append(
            f"{what}: in {said} the head has a radius of {100 * radius:.3g} cm; scaled by "
            f"{10.0**power:g}"
        )
    return points * factor * 10.0**power


def _landmarks(given: Mapping[str, Any]) -> np.ndarray | None:
    """(3, 3) nasion and the left and right preauricular points; None unless all three are there."""
    found = []
    for names in LANDMARKS:
        points = [p for name, p in given.items() if str(name).strip().lower() in names]
        try:
            point = np.asarray(points[0], float)
        except (IndexError, TypeError, ValueError):
            return None
        if point.shape != (3,) or not is_position(point[None]).all():
            return None
        found.append(point)
    return np.array(found)


def _by_landmarks(
    points: np.ndarray, landmarks: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray | None:
    """Transform points in metres to head coordinates by landmarks; None where these fit no head.

    The landmarks may have another unit, a power of ten from metres.
    """
    import mne

    width = float(np.linalg.norm(landmarks[2] - landmarks[1]))
    if not width > 0:
        return None
    nasion, lpa, rpa = (point * 10.0 ** np.round(np.log10(0.15 / width)) for point in landmarks)
    width = float(np.linalg.norm(rpa - lpa))
    front = float(np.linalg.norm(np.cross(nasion - lpa, rpa - lpa))) / width
    if not (0.08 < width < 0.25 and 0.05 < front < 0.16):
        return None
    to_head = mne.transforms.get_ras_to_neuromag_trans(nasion, lpa, rpa)
    head = points @ to_head[:3, :3].T + to_head[:3, 3]
    return head if np.nanmean(head[:, 2]) > 0 else None


def _turned(points: np.ndarray, other: np.ndarray) -> bool:
    """Return whether the same points are rotated by 45° and more in two coordinate systems."""
    first, second = (p[is_position(p)] - p[is_position(p)].mean(axis=0) for p in (points, other))
    u, _, vt = np.linalg.svd(first.T @ second)
    return float(np.trace(u @ vt)) < 1 + 2 * np.cos(np.pi / 4)
