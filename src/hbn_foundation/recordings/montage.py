"""Channel names resolved to positions on the unit sphere.

Every template (MNE's) is centred on the sphere fitted to its own electrodes and projected to
unit length, in head coordinates (x right, y front, z up). So E-numbers of a HydroCel net and
10-20 names share one space: E22 lies 8° from Fp1, E36 5° from C3, E129 is Cz.

A name says a place only together with the other names of its recording: ``E1`` is an electrode of
a HydroCel net among ``E1`` to ``E128`` and lies beside an eye in a sleep laboratory, ``A1`` is the
vertex of a BioSemi cap among ``A1`` to ``D32`` and an ear among 10-20 names.

Electrodes of caps whose numbers mean other places (``E1`` of the 256-channel net, ``A1`` of
BioSemi's caps) get a name of their own (``E1@257``, ``A1@biosemi128``), since a name stands for
one position everywhere in the project.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np

RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Old 10-20 names and the ones of today."""

EARS = frozenset({"A1", "A2", "M1", "M2"})
PREFIX = re.compile(r"^(EEG(?=[A-Z])|(EEG|POL)[\s_:.\-]+)", re.IGNORECASE)
BETWEEN = r"[\s_]*[-–—−/:_][\s_]*"
"""What stands between an electrode and its reference, or the two ends of a derivation."""

REFERENCE = re.compile(
    rf"{BETWEEN}(REF\w*|LER?|AR|AVG?|AVE|CAR|A1A2|A12|A1|A2|M1M2|M1|M2|CZ|\d{{1,2}})$"
    r"|(?<=[\dZ])[AM][12]$",
    re.IGNORECASE,
)
PAIR = re.compile(rf"([A-Z]+(?:\d+|Z)H?)(?:{BETWEEN}|\s+)?([A-Z]+(?:\d+|Z)H?)", re.IGNORECASE)
NET_NUMBER = re.compile(r"E0*([1-9]\d{0,2})", re.IGNORECASE)
NETS = {
    33: "GSN-HydroCel-32",
    65: "GSN-HydroCel-65_1.0",
    129: "GSN-HydroCel-129",
    257: "GSN-HydroCel-257",
}
"""MNE's montages of EGI nets, by their number of electrodes with the vertex."""

NET_SHARES = {65: 0.9, 129: 0.5, 257: 0.5}
"""Share of a net's electrodes from which on numbers alone speak for it."""

EGI = re.compile(r"\bEGI\b|HYDROCEL|\bGSN\b|GEODESIC", re.IGNORECASE)
"""What the name of a maker or a cap holds where E-numbers are those of an EGI net."""

BIOSEMI_NAME = re.compile(r"([A-H])0*([1-9]|[12]\d|3[0-2])", re.IGNORECASE)
BIOSEMI = {16: 0.9, 32: 0.9, 64: 0.9, 128: 0.5, 160: 0.5, 256: 0.5}
"""BioSemi's caps, and the share of their electrodes from which on names speak for one."""

MIN_TO_FIT = 12
"""Points from which on a sphere of their own is believed."""

USUAL_RADIUS = 0.095
USUAL_CENTRES = np.array([[0.0, 0.01, 0.038], [0.0, 0.0, 0.0]])
"""Centre of a head in head coordinates, and where coordinates begin at it, in metres."""

LABEL = re.compile(r"E\d+|E\d+@\d+|[A-H]\d+@biosemi\d+")
"""Canonical names that are no 10-05 names."""

VERTEX = frozenset({"VREF", "VERTEX REFERENCE", "VERTEX", "E129/CZ", "CZ/E129", "REF CZ"})


def canonical_names(names: Sequence[str], maker: str = "") -> list[str | None]:
    """Canonical name of each channel, None where the name says no known place.

    Understood are 10-05 names in any case, with ``EEG`` before, a reference or dots behind
    (``EEG Fp1-REF``, ``FP1``, ``Fp1.``), old names (``T3``), numbers of EGI nets (``E1``) and
    BioSemi's (``A1``), the last two where most electrodes of such a cap are there. A pair such as
    ``Fp1-F3`` or ``A2-A1`` is no single place, but where most channels have the same second end,
    that is their reference. Counted names (``C1`` to ``C32``) are no 10-20 names.

    Parameters
    ----------
    names
        The names of a recording's EEG channels.
    maker
        What is known of the cap's maker; with ``EGI``, few E-numbers are enough.
    """
    common = _common_reference(names)
    pairs = bipolar_pairs(names)
    bare = ["" if i in pairs else _bare(name, common) for i, name in enumerate(names)]
    net, cap = _net_size(bare, bool(EGI.search(maker))), _biosemi_size(bare)
    counted = _counted(bare)
    return [
        _canonical(name.strip(), text, net, cap, counted)
        for name, text in zip(names, bare, strict=True)
    ]


def match_names(own: Sequence[str], other: Sequence[str], maker: str = "") -> dict[int, int]:
    """Match the names of a recording's channels with those of a sidecar.

    Names match as they stand, else by their canonical names, else without ``EEG``, punctuation,
    leading zeros and capitals, else without their reference, too; all but the first only where no
    other name of either list is like them.

    Returns
    -------
    dict
        Place in `other` by the place in `own`.
    """
    places = {name.strip(): place for place, name in reversed(list(enumerate(other)))}
    matched = {i: places[name.strip()] for i, name in enumerate(own) if name.strip() in places}
    for keys in (canonical_names, _plain_names, _unreferenced_names):
        first, second = (
            _unique(keys(names, maker), taken)
            for names, taken in ((own, matched.keys()), (other, matched.values()))
        )
        matched |= {first[key]: second[key] for key in first.keys() & second.keys()}
    return matched


def _plain_names(names: Sequence[str], maker: str) -> list[str | None]:
    plain = [re.sub(r"[\W_]+", "", name).upper() for name in names]
    bare = [re.sub(r"^EEG(?=.)", "", name) for name in plain]
    return [re.sub(r"(?<!\d)0+(?=\d)", "", name) or None for name in bare]


def _unreferenced_names(names: Sequence[str], maker: str) -> list[str | None]:
    bare = [REFERENCE.sub("", PREFIX.sub("", name.strip())) for name in names]
    return _plain_names(bare, maker)


def _unique(keys: Sequence[str | None], taken: Collection[int]) -> dict[str, int]:
    """Places of the keys that occur once, but for those taken."""
    counts = Counter(keys)
    return {
        key: place
        for place, key in enumerate(keys)
        if key is not None and counts[key] == 1 and place not in taken
    }


def bipolar_pairs(names: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Find the channels that are derivations between two electrodes of the scalp.

    Returns
    -------
    dict
        The two ends' canonical names (10-05) by the channel's place. ``Fz-Cz`` is one, unless
        most channels with two ends have ``Cz`` for the second: then that is their reference.
    """
    common = _common_reference(names)
    pairs = {}
    for place, name in enumerate(names):
        ends = _ends(name)
        if ends is not None and ends[1].upper() != common:
            pairs[place] = ends
    return pairs


def _ends(name: str) -> tuple[str, str] | None:
    """Names of the two scalp electrodes of a derivation, None for any other channel."""
    text = re.sub(r"-\d{1,2}$", "", PREFIX.sub("", name.strip()).rstrip(". "))
    match = PAIR.fullmatch(text)
    if match is None or text.upper() in _by_upper_name():
        return None
    first, second = (_by_upper_name().get(_today(end)) for end in match.groups())
    if first is None or second is None or first in EARS or second in EARS:
        return None
    return first, second


def _common_reference(names: Sequence[str]) -> str:
    """Return what stands behind most names that have two parts, in capitals, "" for nothing."""
    halves = [re.split(BETWEEN, PREFIX.sub("", name.strip()), maxsplit=1) for name in names]
    seconds = Counter(
        _today(half[1])
        for half in halves
        if len(half) == 2 and half[1] and _today(half[0]) in _by_upper_name()
    )
    if not seconds:
        return ""
    name, n = seconds.most_common(1)[0]
    return name if n >= 2 and n > seconds.total() / 2 else ""


def _bare(name: str, common: str) -> str:
    """Return a name without prefix, reference and dots, in capitals; "" for ears with one."""
    whole = PREFIX.sub("", name.strip())
    first, *rest = re.split(BETWEEN, whole, maxsplit=1)
    text = first if rest and _today(rest[0]) == common else REFERENCE.sub("", whole)
    if text != whole and text.upper() in EARS:
        return ""
    return _today(text.rstrip(". "))


def _net_size(bare: Sequence[str], egi: bool) -> int:
    """Electrodes of the HydroCel net that has these numbers, its vertex counted; 0 for none."""
    numbers = {int(m[1]) for m in map(NET_NUMBER.fullmatch, bare) if m}
    largest = max(numbers, default=0)
    for size in NETS:
        share = 0.9 if egi and size < 129 else NET_SHARES.get(size, 2.0)
        if largest <= size and len(numbers) >= share * (size - 1):
            return size
    # a part of a net
    return (129 if largest <= 129 else 257) if egi and numbers else 0


def _biosemi_size(bare: Sequence[str]) -> int:
    """Electrodes of the BioSemi cap that has these names, 0 for none."""
    found = {(m[1], int(m[2])) for m in map(BIOSEMI_NAME.fullmatch, bare) if m}
    places = [32 * (ord(letter) - ord("A")) + number for letter, number in found]
    for size, share in BIOSEMI.items():
        if max(places, default=999) <= size and len(places) >= share * size:
            return size
    return 0


def _counted(bare: Sequence[str]) -> set[str]:
    """Stems that are counted (``C1`` to ``C32``): more of their numbers are no 10-05 names."""
    known: Counter[str] = Counter()
    for text in set(bare):
        match = re.fullmatch(r"([A-Z]+)\d+", text)
        if match:
            known[match[1]] += 1 if text in _by_upper_name() else -1
    return {stem for stem, balance in known.items() if balance < 0}


def _canonical(name: str, bare: str, net: int, cap: int, counted: set[str]) -> str | None:
    if name.upper() in VERTEX:
        return "Cz"
    if "@" in name:
        return name if name in _template_of(name) else None
    number, label = NET_NUMBER.fullmatch(bare), BIOSEMI_NAME.fullmatch(bare)
    if number and net:
        place = int(number[1])
        own = f"E{place}" if net == 129 else f"E{place}@{net}"
        return "Cz" if place == net else own if own in _net(net) else None
    if label and cap:
        return _cap(cap).get(f"{label[1]}{int(label[2])}")
    return None if bare.rstrip("0123456789") in counted else _by_upper_name().get(bare)


def _today(text: str) -> str:
    """Return a name in capitals, an old 10-20 name as that of today."""
    return RENAMED.get(text.upper(), text.upper())


def template_positions(canonical: Sequence[str]) -> np.ndarray:
    """(C, 3) unit vectors of canonical names; KeyError for any other."""
    return np.array([_template_of(name)[name] for name in canonical], float).reshape(-1, 3)


def template_name(canonical: str) -> str:
    """Name of the template that a canonical name's position comes from."""
    if not LABEL.fullmatch(canonical):
        return "10-05"
    cap = canonical.partition("@")[2] or "129"
    return NETS.get(int(cap), cap) if cap.isdigit() else cap


def to_unit_sphere(points: np.ndarray) -> np.ndarray:
    """Project measured points (C, 3) in metres to unit vectors around the centre of their head.

    The centre is that of the sphere nearest to them. A head is no sphere, and the sphere of a few
    electrodes may lie centimetres beside the head's, which turns directions by 10°; so unless the
    points lie on a sphere to 2 mm, the centre is drawn to where it lies in adults: 4 cm above the
    ears and 1 cm before them, or at the origin where that is a centre more plainly.
    """
    points = np.asarray(points, float)
    directions = points - _sphere(points, _usual_centre(points))[0]
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / np.where(norms > 0, norms, np.nan)


def head_radius(points: np.ndarray) -> float:
    """Radius of the head that points (C, 3) lie on, in their unit: of no use for its details."""
    points = np.asarray(points, float)
    distance = float(np.median(np.linalg.norm(points, axis=1)))
    if len(points) < MIN_TO_FIT or distance == 0:
        return distance
    centre, radius = _sphere(points / distance)
    misfit = np.linalg.norm(points / distance - centre, axis=1) - radius
    return radius * distance if misfit.std() < 0.1 * radius else distance


def _usual_centre(points: np.ndarray) -> np.ndarray:
    spread = [np.linalg.norm(points - centre, axis=1).std() for centre in USUAL_CENTRES]
    return USUAL_CENTRES[int(len(points) > 3 and spread[1] < spread[0] / 2)]


def _sphere(points: np.ndarray, usual: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere nearest to points: |p|² = 2 p·c + (r² − |c|²).

    With a usual centre, known to 1 cm, the points are taken for 1.5 cm beside a sphere unless
    they show that they lie on one.
    """
    design = np.column_stack([2 * points, np.ones(len(points))])
    squares = (points**2).sum(axis=1)
    solution = np.linalg.lstsq(design, squares, rcond=None)[0]
    if usual is not None:
        misfit = (design @ solution - squares) / (2 * USUAL_RADIUS)
        error = np.sqrt((misfit**2).sum() / max(len(points) - 4, 1))
        exact = len(points) >= MIN_TO_FIT and error < 0.002
        weight = 1 / (2 * USUAL_RADIUS * (max(error, 1e-4) if exact else 0.015))
        prior = np.column_stack([np.eye(3), np.zeros(3)]) / 0.01
        system = np.vstack([design * weight, prior])
        target = np.concatenate([squares * weight, usual / 0.01])
        solution = np.linalg.lstsq(system, target, rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))


def _template_of(name: str) -> Mapping[str, np.ndarray]:
    """Return the template that holds a canonical name, if any does; others are not loaded."""
    if not LABEL.fullmatch(name):
        return _ten_five()
    cap = name.partition("@")[2] or "129"
    if cap.isdigit():
        return _net(int(cap)) if int(cap) in NETS else {}
    size = int(cap.removeprefix("biosemi"))
    return _biosemi(size) if size in BIOSEMI else {}


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
def _biosemi(size: int) -> Mapping[str, np.ndarray]:
    """Return unit vectors of a large BioSemi cap by canonical name."""
    cap = f"biosemi{size}"
    return {f"{name}@{cap}": position for name, position in _template(cap).items()}


@cache
def _cap(size: int) -> Mapping[str, str]:
    """Canonical names of a BioSemi cap's labels; up to 64 electrodes stand at 10-20 places."""
    if size > 64:
        return {name.partition("@")[0]: name for name in _biosemi(size)}
    names = list(_template(f"biosemi{size}"))
    return {f"{'AB'[i // 32]}{i % 32 + 1}": name for i, name in enumerate(names)}


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
