"""Place the electrodes of a recording on the unit sphere.

A measured position takes precedence over a name: electrodes.tsv with its coordsystem.json comes
first, then the file, then the template of the names. Declared units and axes are often wrong, so
they are checked against the size of a head, the names, and the symmetry of caps; a note names
everything that is read otherwise than declared.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hbn_foundation.bids import entities, sidecars
from hbn_foundation.recordings.montage import match_names, template_name, template_positions
from hbn_foundation.recordings.sphere import angles, head_radius, to_unit_sphere
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
    [(0.0015, 0.0851, -0.0348), (-0.0806, -0.0291, -0.0413), (0.0844, -0.0285, -0.0413)]
)
"""Nasion and preauricular points of MNE's fsaverage in MNI coordinates, in metres."""

LANDMARKS = ({"nas", "nasion", "nz"}, {"lpa"}, {"rpa"})
MISSING = frozenset({"", "n/a", "nan"})

LARGEST = 1e4
"""Greatest coordinate of a position in any unit."""

FAR = 3.0
"""Greatest distance from the middle of all electrodes, in medians; on a head it is below 2."""

MIN_FLAT = 8
"""Least number of electrodes that cannot lie in one plane of a head."""

AXES_OFF, AXES_RIGHT = 30.0, 20.0
"""Median degrees from the names' positions beyond which axes are doubted, and below which other
axes are taken."""

MIN_NAMED = 4
MIN_SYMMETRIC = 8


class Measured(NamedTuple):
    """Measured positions (C, 3) in metres, NaN for none; `what` names them in notes.

    `axes` (3, 3) take them to the axes of head coordinates, as far as is declared by `system`: ""
    for none, None if the points are known to be in head coordinates.
    """

    what: str
    points: np.ndarray
    axes: np.ndarray
    system: str | None


def place_electrodes(
    names: Sequence[str],
    canonical: Sequence[str | None],
    in_file: np.ndarray,
    root: str | Path,
    path: str,
    notes: list[str],
) -> tuple[np.ndarray, list[str]]:
    """Place each electrode by its best source.

    Parameters
    ----------
    names, canonical
        As the file names them, and canonical; None for a name without a known position.
    in_file
        (C, 3) positions in the file in metres, NaN where there are none.
    root, path
        The BIDS root, and the recording relative to it.
    notes
        What is guessed, corrected or not read is added here, a sentence each.

    Returns
    -------
    (C, 3) unit vectors in head coordinates, NaN where unknown, and the sources, "" for none.
    """
    expected = np.full((len(names), 3), np.nan)
    known = [i for i, name in enumerate(canonical) if name is not None]
    expected[known] = template_positions([str(canonical[i]) for i in known])
    positions, sources = np.full_like(expected, np.nan), [""] * len(names)

    def fill(points: np.ndarray, found_in: Sequence[str]) -> None:
        for i in np.flatnonzero(~is_position(positions) & is_position(points)).tolist():
            positions[i], sources[i] = points[i], found_in[i]

    table = _of_electrodes_tsv(names, root, path, notes)
    if table is not None:
        fill(_on_sphere(table, expected, notes), ["electrodes.tsv"] * len(names))
    in_file = np.where(is_position(in_file)[:, None], in_file, np.nan)
    if (~is_position(positions) & is_position(in_file)).any():
        what = "positions in the file"
        measured = Measured(what, _to_metres(in_file, "m", what, notes), np.eye(3), None)
        fill(_on_sphere(measured, expected, notes), ["file"] * len(names))
    fill(expected, [f"template {template_name(name)}" if name else "" for name in canonical])
    return positions, sources


def is_position(points: np.ndarray) -> np.ndarray:
    """(C,) whether points (C, 3) are positions: finite and not too large."""
    return (np.abs(points) < LARGEST).all(axis=1)


def _of_electrodes_tsv(
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
            system, declared = _coordinate_system(file, root, path, notes)
            given = declared.get("AnatomicalLandmarkCoordinates")
            if not isinstance(given, Mapping):
                given = {row["name"]: numbers[i] for i, row in enumerate(rows)}
            metres = _to_metres(
                points, str(declared.get("EEGCoordinateUnits", "")), file.name, notes
            )
            return _in_head_coordinates(metres, system, _landmarks(given), file.name, notes)
    return None


def _coordinates(cells: list[list[str]], file: str, notes: list[str]) -> np.ndarray:
    """(N, 3) numbers of cells, NaN for other text; a row of zeros is NaN, too."""
    if any(re.fullmatch(r"[+-]?\d*,\d+(e[+-]?\d+)?", c, re.I) for row in cells for c in row):
        notes.append(f"{file} has decimal commas")
    numbers = np.array([[number(cell) for cell in row] for row in cells])
    strange = [
        " ".join(row)
        for row, values in zip(cells, numbers.tolist(), strict=True)
        if any(
            abs(value) >= LARGEST or (value != value and cell.lower() not in MISSING)
            for cell, value in zip(row, values, strict=True)
        )
    ]
    if strange:
        notes.append(f"{file}: no coordinates: {', '.join(strange[:3])}")
    numbers[~is_position(numbers) | ~numbers.any(axis=1)] = np.nan
    return numbers


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


def _in_head_coordinates(
    metres: np.ndarray, system: str, landmarks: np.ndarray | None, what: str, notes: list[str]
) -> Measured:
    """Transform points by their landmarks where they have them, else name the declared axes."""
    plain = re.sub(r"[^a-z0-9]", "", system.lower())
    axes = FRONT_LEFT_UP if plain in FRONT_LEFT_UP_SYSTEMS else _orientation(plain)
    own = Measured(what, metres, axes, "" if plain in ("", "na", "other") else system)
    if not is_position(metres).any():
        return own
    if landmarks is None:
        is_template = plain.startswith(TEMPLATE_SYSTEMS)
        head = _by_landmarks(metres, TEMPLATE_LANDMARKS) if is_template else None
        return own if head is None else own._replace(points=head, axes=np.eye(3))
    head = _by_landmarks(metres, landmarks)
    if head is None:
        notes.append(f"{what}: its landmarks (NAS, LPA, RPA) fit no head and are not used")
        return own
    if own.system and _turned(head, metres @ axes.T):
        notes.append(f"{what}: its landmarks contradict {system}'s axes; the landmarks count")
    return Measured(what, head, np.eye(3), None)


def _orientation(plain: str) -> np.ndarray:
    """(3, 3) axes of an orientation such as ``ras``; those of head coordinates for other names."""
    if re.fullmatch("[rlapsi]{3}", plain):
        axes = np.vstack([np.eye(3), -np.eye(3)])[["raslpi".index(x) for x in plain]].T
        if abs(np.linalg.det(axes)) == 1:
            return axes
    return np.eye(3)


def _to_metres(points: np.ndarray, unit: str, what: str, notes: list[str]) -> np.ndarray:
    """Scale points to the size of a head; outliers, or all where no power of ten does, are NaN."""
    nothing = np.full_like(points, np.nan)
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
            return nothing
    factor = UNITS.get(unit.strip().lower(), 1.0)
    radius = head_radius(rows) * factor
    power = int(np.round(np.log10(np.sqrt(RADII[0] * RADII[1]) / max(radius, 1e-9))))
    if abs(power) > 3 or not RADII[0] <= radius * 10.0**power <= RADII[1]:
        notes.append(
            f"{what}: a head with a radius of {100 * radius:.3g} cm, expected 5 to 15 cm; no "
            "positions from it"
        )
        return nothing
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


def _by_landmarks(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
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


def _on_sphere(measured: Measured, expected: np.ndarray, notes: list[str]) -> np.ndarray:
    """(C, 3) unit vectors of measured positions, their axes checked; NaN where there are none."""
    unit = np.full_like(measured.points, np.nan)
    placed = is_position(measured.points)
    if not placed.any():
        return unit
    measured, expected = measured._replace(points=measured.points[placed]), expected[placed]
    by_names = is_position(expected).sum() >= MIN_NAMED
    unit[placed] = (
        _by_names(measured, expected, notes) if by_names else _by_symmetry(measured, notes)
    )
    return unit


def _by_names(measured: Measured, expected: np.ndarray, notes: list[str]) -> np.ndarray:
    """Convert points to unit vectors, in the order and signs of axes that agree with the names."""
    named = is_position(expected)

    def off(unit: np.ndarray) -> float:
        return float(np.median(angles(unit[named], expected[named])))

    unit = to_unit_sphere(measured.points @ measured.axes.T)
    if off(unit) <= AXES_OFF:
        return unit
    # all 48 orders and signs of the axes
    every = [
        np.diag(signs)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    turned = [(axes, to_unit_sphere(measured.points @ axes.T)) for axes in every]
    axes, best = min(turned, key=lambda pair: off(pair[1]))
    if off(best) < AXES_RIGHT:
        notes.append(f"{measured.what}: by the names of its electrodes {_axes_in_words(axes)}")
        return best
    notes.append(
        f"{measured.what}: positions lie {off(unit):.0f}° (median) from where the names of the "
        "electrodes say; the positions are used"
    )
    return unit


def _by_symmetry(measured: Measured, notes: list[str]) -> np.ndarray:
    """Convert points without known names to unit vectors; caps are symmetric left and right."""
    what, points, axes, system = measured
    unit = to_unit_sphere(points @ axes.T)
    if len(points) >= MIN_SYMMETRIC and system is not None:
        across_x, across_y = (_asymmetry(unit, axis) for axis in (0, 1))
        one_side = abs(unit[:, 0].mean()) > 0.2
        if across_y < (0.1 if system else 0.5) * across_x and not one_side:
            axes = FRONT_LEFT_UP @ axes if (axes == np.eye(3)).all() else np.eye(3)
            notes.append(f"{what}: by the symmetry of its electrodes {_axes_in_words(axes)}")
            return to_unit_sphere(points @ axes.T)
    if system == "" or axes[0, 0] != 1:
        why = f"{system} has them" if system else "no axes are declared"
        notes.append(f"{what} has no landmarks: {_axes_in_words(axes)}, as {why}")
    return unit


def _asymmetry(unit: np.ndarray, axis: int) -> float:
    """Mean degrees from an electrode's mirror image to the nearest electrode."""
    mirrored = unit.copy()
    mirrored[:, axis] *= -1
    cosines = np.clip(mirrored @ unit.T, -1, 1)
    return float(np.degrees(np.arccos(cosines.max(axis=1))).mean())


def _axes_in_words(axes: np.ndarray) -> str:
    words = np.array([("right", "left"), ("front", "back"), ("up", "down")])
    ways = [words[np.flatnonzero(column)[0], int(column.sum() < 0)] for column in axes.T]
    return ", ".join(f"{letter} is {way}" for letter, way in zip("xyz", ways, strict=True))
