"""Place the electrodes of a recording on the unit sphere.

A measured position outranks a name: first comes electrodes.tsv with its coordsystem.json, then
what the file holds, then the template that the names speak for. What people write about units and
axes is often wrong, so it is checked against the size of a head, the names, and the symmetry of
caps; whatever is read otherwise than it is declared is told.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids_names import entities, sidecars
from hbn_foundation.recordings.montage import (
    head_radius,
    match_names,
    template_name,
    template_positions,
    to_unit_sphere,
)
from hbn_foundation.sidecars import UnreadableSidecar, read_json, read_table

RADII = (0.05, 0.15)
"""Least and greatest radius of a head in metres."""

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
FRONT_LEFT_UP = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""Takes x front, y left, z up to head coordinates (x right, y front, z up)."""

FRONT_LEFT_UP_SYSTEMS = frozenset({"ctf", "4dbti", "kityokogawa", "eeglab", "eeglabhj"})
UNDECLARED = frozenset({"", "na", "other"})
LANDMARKS = {"nasion": {"nas", "nasion", "nz"}, "lpa": {"lpa"}, "rpa": {"rpa"}}
MISSING = frozenset({"", "n/a", "nan"})

LARGEST = 1e4
"""Coordinates beyond are no positions in any unit; NaN is not below it either."""

AXES_OFF = 30.0
"""Median degrees from where names say, beyond which axes are suspected."""

AXES_RIGHT = 20.0
MIN_NAMED = 4
MIN_SYMMETRIC = 8


@dataclass
class Places:
    """Where electrodes are.

    Attributes
    ----------
    positions
        (C, 3) unit vectors in head coordinates, NaN where nothing tells the place.
    sources
        What each position comes from, "" for none.
    notes
        What was guessed, corrected or not read, a sentence each.
    """

    positions: np.ndarray
    sources: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """Measured positions: points (C, 3) in metres, NaN for none, and whose axes they have."""

    source: str
    points: np.ndarray
    declared: bool


def place_electrodes(
    names: Sequence[str],
    canonical: Sequence[str | None],
    in_file: np.ndarray,
    root: str | Path,
    path: str,
) -> Places:
    """Place electrodes by the best source that knows each.

    Parameters
    ----------
    names
        As the file names them.
    canonical
        Their canonical names, None where the names say no place.
    in_file
        (C, 3) positions in the file in metres, NaN where there are none.
    root, path
        The BIDS root, and the recording relative to it.
    """
    expected = np.full((len(names), 3), np.nan)
    known = [i for i, name in enumerate(canonical) if name is not None]
    expected[known] = template_positions([str(canonical[i]) for i in known])
    places = Places(np.full((len(names), 3), np.nan), [""] * len(names))
    in_file = np.where(_there(in_file)[:, None], in_file, np.nan)
    sources = [_electrodes(names, root, path, places.notes), Measured("file", in_file, True)]
    for measured in sources:
        if measured is None or not (_missing(places) & _there(measured.points)).any():
            continue
        unit = _on_head(measured, expected, places.notes)
        for i in np.flatnonzero(_missing(places) & _there(unit)).tolist():
            places.positions[i], places.sources[i] = unit[i], measured.source
    for i in np.flatnonzero(_missing(places) & _there(expected)).tolist():
        places.positions[i] = expected[i]
        places.sources[i] = f"template {template_name(str(canonical[i]))}"
    return places


def _missing(places: Places) -> np.ndarray:
    """(C,) whether an electrode has no position."""
    return ~_there(places.positions)


def _there(points: np.ndarray) -> np.ndarray:
    return (np.abs(points) < LARGEST).all(axis=1)


def _electrodes(
    names: Sequence[str], root: str | Path, path: str, notes: list[str]
) -> Measured | None:
    """Read the first electrodes.tsv that knows any of the electrodes, in metres."""
    for file in sidecars(root, path, "electrodes.tsv"):
        try:
            table = read_table(file)
        except UnreadableSidecar as error:
            notes.append(f"{error}: no positions from it")
            continue
        notes += table.notes
        if not {"name", "x", "y", "z"} <= set(table.columns):
            notes.append(f"{file.name}: expected columns name, x, y, z; no positions from it")
            continue
        numbers, strange = _numbers(table.rows, file.name, notes)
        if strange:
            notes.append(f"{file.name}: no coordinates: {', '.join(strange[:3])}")
        places = match_names(names, [row["name"] for row in table.rows])
        points = np.full((len(names), 3), np.nan)
        for own, other in places.items():
            points[own] = numbers[other]
        if not places:
            notes.append(f"{file.name} names no channel of the file: no positions from it")
        if not _there(points).any():
            continue
        landmarks = {row["name"]: numbers[i].tolist() for i, row in enumerate(table.rows)}
        return _in_head_coordinates(points, landmarks, file, root, path, notes)
    return None


def _numbers(
    rows: Sequence[Mapping[str, str]], file: str, notes: list[str]
) -> tuple[np.ndarray, list[str]]:
    """(N, 3) numbers, NaN where there are none, and the texts that are none."""
    cells = [[row[axis] for axis in "xyz"] for row in rows]
    commas = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
    if any(commas.fullmatch(cell) for row in cells for cell in row):
        notes.append(f"{file} has decimal commas")
        cells = [[cell.replace(",", ".") for cell in row] for row in cells]
    strange = []
    numbers = np.full((len(cells), 3), np.nan)
    for i, row in enumerate(cells):
        for axis, cell in enumerate(row):
            try:
                numbers[i, axis] = float(cell) if cell.lower() not in MISSING else np.nan
            except ValueError:
                strange.append(cell)
    beyond = ~_there(numbers) & ~np.isnan(numbers).any(axis=1)
    strange += [" ".join(cells[i]) for i in np.flatnonzero(beyond).tolist()]
    numbers[~_there(numbers)] = np.nan
    return numbers, strange


def _in_head_coordinates(
    points: np.ndarray,
    rows: Mapping[str, Sequence[float]],
    file: Path,
    root: str | Path,
    path: str,
    notes: list[str],
) -> Measured | None:
    """Bring the positions of electrodes.tsv to metres and to the axes of head coordinates."""
    system, declared = _coordinate_system(file, root, path, notes)
    metres = _to_metres(points, str(declared.get("EEGCoordinateUnits", "")), file.name, notes)
    if metres is None:
        return None
    plain = re.sub(r"[^a-z0-9]", "", system.lower())
    axes = FRONT_LEFT_UP if plain in FRONT_LEFT_UP_SYSTEMS else np.eye(3)
    given = declared.get("AnatomicalLandmarkCoordinates")
    landmarks = _landmarks(given if isinstance(given, Mapping) else rows)
    if landmarks is not None:
        head = _by_landmarks(metres, landmarks)
        if head is not None:
            if plain not in UNDECLARED and _turned(head, metres @ axes.T):
                notes.append(f"{file.name}: its landmarks contradict {system}'s axes; they count")
            return Measured("electrodes.tsv", head, True)
        notes.append(f"{file.name}: its landmarks (NAS, LPA, RPA) fit no head and are not used")
    if plain in FRONT_LEFT_UP_SYSTEMS:
        notes.append(
            f"{file.name} has no landmarks: x is taken for front and y for left, as {system} says"
        )
    return Measured("electrodes.tsv", metres @ axes.T, plain not in UNDECLARED)


def _coordinate_system(
    file: Path, root: str | Path, path: str, notes: list[str]
) -> tuple[str, dict[str, Any]]:
    """Name of the coordinate system of an electrodes.tsv, and all of its coordsystem.json."""
    space = entities(file.name).get("space", "")
    files = sidecars(root, path, "coordsystem.json")
    own = [f for f in files if entities(f.name).get("space", "") == space]
    for found in own or (files if len(files) == 1 else []):
        try:
            content = read_json(found)
        except UnreadableSidecar as error:
            notes.append(f"{error}: the axes of {file.name} are not known")
            break
        return str(content.get("EEGCoordinateSystem") or space), content
    else:
        notes.append(f"{file.name} has no coordsystem.json")
    return space, {}


def _to_metres(points: np.ndarray, unit: str, what: str, notes: list[str]) -> np.ndarray | None:
    """Scale points so that they lie on a head; None where no plain factor does."""
    there = points[_there(points)]
    flat = np.linalg.svd(there - there.mean(axis=0), compute_uv=False)
    if len(there) >= MIN_SYMMETRIC and flat[-1] < 1e-3 * flat[0]:
        notes.append(f"{what}: all electrodes lie in a plane; no positions from it")
        return None
    factor = UNITS.get(unit.strip().lower(), 1.0)
    radius = head_radius(there) * factor
    if RADII[0] <= radius <= RADII[1]:
        return points * factor
    for power in (-3, -2, -1, 1, 2, 3):
        if RADII[0] <= radius * 10.0**power <= RADII[1]:
            said = f"in {unit or 'm'} " if unit.lower() in ("", *UNITS) else f"in {unit!r} "
            notes.append(
                f"{what}: {said}the head has a radius of {100 * radius:.3g} cm; scaled by "
                f"{10.0**power:g}"
            )
            return points * factor * 10.0**power
    notes.append(
        f"{what}: a head with a radius of {100 * radius:.3g} cm, expected 5 to 15 cm; no positions "
        "from it"
    )
    return None


def _landmarks(given: Mapping[str, Any]) -> list[np.ndarray] | None:
    """Nasion and the left and right preauricular points; None unless all three are there."""
    found = []
    for names in LANDMARKS.values():
        points = [p for name, p in given.items() if str(name).strip().lower() in names]
        try:
            point = np.asarray(points[0], float)
        except (IndexError, TypeError, ValueError):
            return None
        if point.shape != (3,) or not np.isfinite(point).all():
            return None
        found.append(point)
    return found


def _by_landmarks(points: np.ndarray, landmarks: Sequence[np.ndarray]) -> np.ndarray | None:
    """Take points in metres to head coordinates by their landmarks; None where these fit no head.

    The landmarks may have a unit of their own, a plain factor from metres.
    """
    import mne

    width = float(np.linalg.norm(landmarks[2] - landmarks[1]))
    if not width > 0:
        return None
    nasion, lpa, rpa = (point * 10.0 ** np.round(np.log10(0.15 / width)) for point in landmarks)
    front = float(np.linalg.norm(nasion - (lpa + rpa) / 2))
    if not (0.08 < np.linalg.norm(rpa - lpa) < 0.25 and 0.05 < front < 0.16):
        return None
    to_head = mne.transforms.get_ras_to_neuromag_trans(nasion, lpa, rpa)
    head = points @ to_head[:3, :3].T + to_head[:3, 3]
    return head if np.nanmean(head[:, 2]) > 0 else None


def _turned(points: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether the same points have other axes (by 45° and more) in two coordinates."""
    first, second = (p[_there(p)] - p[_there(p)].mean(axis=0) for p in (points, other))
    u, _, vt = np.linalg.svd(first.T @ second)
    return float(np.trace(u @ vt)) < 1 + 2 * np.cos(np.pi / 4)


def _on_head(measured: Measured, expected: np.ndarray, notes: list[str]) -> np.ndarray:
    """(C, 3) unit vectors of measured positions, their axes checked; NaN where there are none."""
    what = "electrodes.tsv" if measured.source != "file" else "positions in the file"
    there = _there(measured.points)
    points = measured.points[there]
    if measured.source == "file":
        scaled = _to_metres(points, "m", what, notes)
        if scaled is None:
            return np.full_like(measured.points, np.nan)
        points = scaled
    named = _there(expected[there])
    unit = np.full_like(measured.points, np.nan)
    if named.sum() >= MIN_NAMED:
        unit[there] = _by_names(points, named, expected[there][named], what, notes)
    else:
        unit[there] = _by_symmetry(points, measured.declared, what, notes)
    return unit


def _by_names(
    points: np.ndarray, named: np.ndarray, expected: np.ndarray, what: str, notes: list[str]
) -> np.ndarray:
    """Turn points to unit vectors, in the plain axes in which they agree with the names."""

    def median_angle(unit: np.ndarray) -> float:
        return float(np.median(angles(unit[named], expected)))

    unit = to_unit_sphere(points)
    off = median_angle(unit)
    if off <= AXES_OFF:
        return unit
    turned = [(axes, to_unit_sphere(points @ axes.T)) for axes in _plain_axes()]
    axes, best = min(turned, key=lambda pair: median_angle(pair[1]))
    if median_angle(best) < AXES_RIGHT:
        notes.append(f"{what}: by the names of the electrodes {_axes_in_words(axes)}")
        return best
    notes.append(
        f"{what}: positions lie {off:.0f}° (median) from where the names of the electrodes say; "
        "the positions are used"
    )
    return unit


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(C,) degrees between unit vectors (C, 3)."""
    return np.degrees(np.arccos(np.clip((first * second).sum(axis=1), -1, 1)))


def _plain_axes() -> list[np.ndarray]:
    """All 48 ways to name the axes of a head x, y and z."""
    return [
        np.diag(signs)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]


def _axes_in_words(axes: np.ndarray) -> str:
    words = (("right", "left"), ("front", "back"), ("up", "down"))
    named = []
    for column, letter in zip(axes.T, "xyz", strict=True):
        place = int(np.flatnonzero(column)[0])
        named.append(f"{letter} is {words[place][int(column[place] < 0)]}")
    return ", ".join(named)


def _by_symmetry(points: np.ndarray, declared: bool, what: str, notes: list[str]) -> np.ndarray:
    """Turn points without known names to unit vectors: caps are alike left and right."""
    unit = to_unit_sphere(points)
    if len(points) >= MIN_SYMMETRIC:
        across_x, across_y = (_asymmetry(unit, axis) for axis in (0, 1))
        one_side = abs(unit[:, 0].mean()) > 0.2
        if across_y < (0.1 if declared else 0.5) * across_x and not one_side:
            notes.append(
                f"{what}: electrodes are alike on both sides of the x axis, as of no other: x is "
                "taken for front and y for left"
            )
            return to_unit_sphere(points @ FRONT_LEFT_UP.T)
    if not declared:
        notes.append(f"{what} declares no axes: x is taken for right and y for front")
    return unit


def _asymmetry(unit: np.ndarray, axis: int) -> float:
    """Mean degrees from an electrode's mirror image to the nearest electrode."""
    mirrored = unit.copy()
    mirrored[:, axis] *= -1
    cosines = np.clip(mirrored @ unit.T, -1, 1)
    return float(np.degrees(np.arccos(cosines.max(axis=1))).mean())
