"""Channel names resolved to positions on the unit sphere.

Every template (MNE's) is centred on the sphere fitted to its own electrodes and projected to
unit length, in head coordinates (x right, y front, z up). So E-numbers of a HydroCel net and
10-20 names share one space: E22 lies 8° from Fp1, E36 5° from C3, E129 is Cz.

Electrodes of nets whose numbers mean other places (``E1`` of the 256-channel net) get a name of
their own (``E1@257``), since a name stands for one position everywhere in the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Old 10-20 names and the ones of today."""

EARS = frozenset({"A1", "A2", "M1", "M2"})
PREFIX = re.compile(r"^(EEG|POL)[\s_:]+", re.IGNORECASE)
REFERENCE = re.compile(
    r"[\s_]*-[\s_]*(REF\w*|LER?|AR|AVG?|AVE|CAR|A1A2|A12|A1|A2|M1M2|M1|M2|CZ|\d{1,2})$",
    re.IGNORECASE,
)
NET_NUMBER = re.compile(r"^E(?:EG)?\s*0*([1-9]\d{0,2})$", re.IGNORECASE)
NETS = {65: "GSN-HydroCel-65_1.0", 129: "GSN-HydroCel-129", 257: "GSN-HydroCel-257"}
"""MNE's montages of EGI nets, by their number of electrodes with the vertex."""

VERTEX = frozenset({"VREF", "VERTEX REFERENCE", "VERTEX", "E129/CZ", "CZ/E129", "REF CZ"})


def canonical_names(names: Sequence[str]) -> list[str | None]:
    """Canonical name of each channel, None where the name says no known place.

    Understood are 10-05 names in any case, with ``EEG`` before, a reference or dots behind
    (``EEG Fp1-REF``, ``FP1``, ``Fp1.``), old names (``T3``) and numbers of EGI nets (``E1``).
    A pair such as ``Fp1-F3`` or ``A2-A1`` is no single place.
    """
    numbers = [int(m[1]) for m in map(NET_NUMBER.match, map(str.strip, names)) if m]
    size = _net_size(numbers)
    return [_canonical(name, size) for name in names]


def _net_size(numbers: Sequence[int]) -> int:
    """Electrodes of the HydroCel net that has these numbers, its vertex counted."""
    if not numbers or 65 < max(numbers) <= 129:
        return 129
    if max(numbers) > 129:
        return 257
    # a full small net, rather than a part of the usual one
    return 65 if len(numbers) >= 60 else 129


def _canonical(name: str, net_size: int) -> str | None:
    text = name.strip()
    if text.upper() in VERTEX:
        return "Cz"
    number = NET_NUMBER.match(text)
    if number:
        if int(number[1]) == net_size:
            return "Cz"
        net = f"E{number[1]}" if net_size == 129 else f"E{number[1]}@{net_size}"
        return net if net in _net(net_size) else None
    bare = REFERENCE.sub("", PREFIX.sub("", text))
    referenced = bare != PREFIX.sub("", text)
    key = bare.rstrip(". ").upper()
    key = RENAMED.get(key, key)
    if key in EARS and referenced:
        return None
    if re.fullmatch(r"E\d+@\d+", key):
        return key if key in _template_of(key) else None
    return _by_upper_name().get(key)


def channel_positions(names: Sequence[str]) -> tuple[list[str], np.ndarray, list[str]]:
    """Resolve channel names to template positions.

    Parameters
    ----------
    names
        Names as the file has them.

    Returns
    -------
    known : list of str
        Canonical names of those that were resolved, in order.
    positions : (C, 3) float64
        Their unit vectors in head coordinates.
    unknown : list of str
        The names left over, as given.
    """
    canonical = canonical_names(names)
    known = [name for name in canonical if name is not None]
    unknown = [name for name, found in zip(names, canonical, strict=True) if found is None]
    return known, template_positions(known), unknown


def template_positions(canonical: Sequence[str]) -> np.ndarray:
    """(C, 3) unit vectors of canonical names; KeyError for any other."""
    return np.array([_template_of(name)[name] for name in canonical], float).reshape(-1, 3)


def to_unit_sphere(points: np.ndarray) -> np.ndarray:
    """Project measured points (C, 3) to unit vectors around the centre of their sphere.

    The centre is fitted by least squares where at least eight points lie all around; else it
    is taken 4 cm above the origin of head coordinates, where it lies in adults.
    """
    points = np.asarray(points, float)
    centre = np.array([0.0, 0.0, 0.04])
    if len(points) >= 8:
        fitted, radius = _sphere(points)
        if 0.06 < radius < 0.14:
            centre = fitted
    directions = points - centre
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere nearest to points: |p|² = 2 p·c + (r² − |c|²)."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))


def _template_of(name: str) -> Mapping[str, np.ndarray]:
    """Return the template that holds a canonical name, if any does; others are not loaded."""
    if not re.fullmatch(r"E\d+(@\d+)?", name):
        return _ten_five()
    size = int(name.partition("@")[2] or 129)
    return _net(size) if size in NETS else {}


@cache
def _ten_five() -> Mapping[str, np.ndarray]:
    """Return unit vectors of the 10-05 names."""
    return {
        name: position
        for name, position in _template("colin27_1005", "standard_1005").items()
        if name not in RENAMED
    }


@cache
def _net(size: int) -> Mapping[str, np.ndarray]:
    """Return unit vectors of a HydroCel net by canonical name; its vertex is the 10-05 one's."""
    suffix = "" if size == 129 else f"@{size}"
    return {f"{name}{suffix}": p for name, p in _template(NETS[size]).items() if name[0] == "E"}


@cache
def _by_upper_name() -> Mapping[str, str]:
    return {name.upper(): name for name in _ten_five()}


def _template(*names: str) -> dict[str, np.ndarray]:
    """Return unit vectors of the first of MNE's montages by these names that it has."""
    import mne

    for name in names:
        try:
            montage = mne.channels.make_standard_montage(name)
            break
        except ValueError:
            continue
    else:
        raise ValueError(f"MNE has no montage named {' or '.join(names)}")
    info = mne.create_info(montage.ch_names, 100.0, "eeg")
    info.set_montage(montage, verbose="ERROR")  # this brings it into head coordinates
    points = np.array([channel["loc"][:3] for channel in info["chs"]])
    centre, _ = _sphere(points)
    unit = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    return dict(zip(info.ch_names, unit, strict=True))
