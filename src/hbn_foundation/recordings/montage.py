"""Channel names resolved to positions on the unit sphere.

Every template (MNE's) is centred on the sphere fitted to its own electrodes and projected to
unit length, in head coordinates (x right, y front, z up). So E-numbers of a HydroCel net and
10-20 names share one space: E22 lies 8° from Fp1, E36 5° from C3, E129 is Cz.

A name has a position only together with the other names of its recording: ``E1`` is an electrode of
a HydroCel net among ``E1`` to ``E128`` and lies beside an eye in a sleep laboratory, ``A1`` is the
vertex of a BioSemi cap among ``A1`` to ``D32`` and an ear among 10-20 names.

Electrodes of caps whose numbers stand for other positions (``E1`` of the 256-channel net, ``A1`` of
BioSemi's caps) get names of their own (``E1@257``, ``A1@biosemi128``), since a name stands for
one position everywhere in the project.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np

from hbn_foundation.recordings.sphere import fit_sphere

RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Old 10-20 names and their current ones."""

EARS = frozenset({"A1", "A2", "M1", "M2"})
VERTEX = frozenset({"VREF", "VERTEX REFERENCE", "VERTEX", "E129/CZ", "CZ/E129", "REF CZ"})
PREFIX = re.compile(r"^(EEG(?=[A-Z])|(EEG|POL)[\s_:.\-]+)", re.IGNORECASE)
BETWEEN = r"[\s_]*[-–—−/:_][\s_]*"
"""Separator between an electrode and its reference, or the two ends of a derivation."""

REFERENCE = re.compile(
    rf"{BETWEEN}(REF\w*|LER?|AR|AVG?|AVE|CAR|A1A2|A12|A1|A2|M1M2|M1|M2|CZ|\d{{1,2}})$"
    r"|(?<=[\dZ])[AM][12]$",
    re.IGNORECASE,
)
PAIR = re.compile(rf"([A-Z]+(?:\d+|Z)H?)(?:{BETWEEN}|\s+)?([A-Z]+(?:\d+|Z)H?)", re.IGNORECASE)

EGI = re.compile(r"\bEGI\b|HYDROCEL|\bGSN\b|GEODESIC", re.IGNORECASE)
"""Names of makers and caps whose E-numbers are those of an EGI net."""

CAP_LABEL = re.compile(r"([A-H])0*([1-9]\d{0,2})", re.IGNORECASE)
CAPS = {
    "GSN-HydroCel-32": 29,
    "GSN-HydroCel-65_1.0": 58,
    "GSN-HydroCel-129": 64,
    "GSN-HydroCel-257": 128,
    "biosemi16": 15,
    "biosemi32": 29,
    "biosemi64": 58,
    "biosemi128": 64,
    "biosemi160": 80,
    "biosemi256": 128,
}
"""MNE's montages of EGI nets (E1, E2, …) and BioSemi caps (A1 to A32, B1, …), the small ones first,
and how many of its labels identify each. A net of 32 is known by its maker only."""

NETS = {"33": "GSN-HydroCel-32", "65": "GSN-HydroCel-65_1.0", "257": "GSN-HydroCel-257"}
"""Nets whose electrodes are named with their number, the vertex counted (``E1@257``)."""


def canonical_names(names: Sequence[str], maker: str = "") -> list[str | None]:
    """Canonical name of each channel, None for a name without a known position.

    Understood are 10-05 names in any case, with ``EEG`` before, a reference or dots behind
    (``EEG Fp1-REF``, ``FP1``, ``Fp1.``), old names (``T3``), numbers of EGI nets (``E1``) and
    BioSemi's (``A1``), the last two where most electrodes of such a cap are there; few E-numbers
    are enough where `maker`, the names of the cap and its maker, says EGI. A pair such as
    ``Fp1-F3`` or ``A2-A1`` has no single position, but a second end that most channels share is
    their reference. Counted names (``C1`` to ``C32``) are no 10-20 names.
    """
    common = _common_reference(names)
    pairs = bipolar_pairs(names)
    bare = ["" if i in pairs else _bare(name, common) for i, name in enumerate(names)]
    cap, counted = _cap_of(bare, bool(EGI.search(maker))), _counted(bare)

    def canonical(name: str, text: str) -> str | None:
        if name.upper() in VERTEX:
            return "Cz"
        if "@" in name:
            return name if name in _template(template_name(name)) else None
        if (label := _cap_label(text)) in cap:
            return cap[label]
        return None if text.rstrip("0123456789") in counted else _by_upper_name().get(text)

    return [canonical(name.strip(), text) for name, text in zip(names, bare, strict=True)]


def match_names(own: Sequence[str], other: Sequence[str], maker: str = "") -> dict[int, int]:
    """Match the names of a recording's channels with those of a sidecar.

    Returns the index in `other` by the index in `own`. Names match as they stand, else by their
    canonical names, else without ``EEG``, punctuation, leading zeros and capitals, else also
    without their reference; all but the first only where the name is unique in both lists.
    """
    places = {name.strip(): place for place, name in reversed(list(enumerate(other)))}
    matched = {i: places[name.strip()] for i, name in enumerate(own) if name.strip() in places}
    for keys in (
        lambda names: canonical_names(names, maker),
        lambda names: [_plain(name) for name in names],
        lambda names: [_plain(REFERENCE.sub("", PREFIX.sub("", name.strip()))) for name in names],
    ):
        first = _unique(keys(own), matched.keys())
        second = _unique(keys(other), matched.values())
        matched |= {first[key]: second[key] for key in first.keys() & second.keys()}
    return matched


def _plain(name: str) -> str | None:
    plain = re.sub(r"^EEG(?=.)", "", re.sub(r"[\W_]+", "", name).upper())
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain) or None


def _unique(keys: Sequence[str | None], taken: Collection[int]) -> dict[str, int]:
    """Return the indices of the keys that occur once, except those taken."""
    once = {key for key, n in Counter(keys).items() if key is not None and n == 1}
    return {key: i for i, key in enumerate(keys) if key in once and i not in taken}


def bipolar_pairs(names: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Find the channels that are derivations between two electrodes of the scalp.

    Returns the two ends' canonical names (10-05) by the channel's index. ``Fz-Cz`` is one, unless
    most channels with two ends have ``Cz`` for the second: then that is their reference.
    """
    common = _common_reference(names)
    pairs = {}
    for place, name in enumerate(names):
        text = re.sub(r"-\d{1,2}$", "", PREFIX.sub("", name.strip()).rstrip(". "))
        match = PAIR.fullmatch(text)
        if match is None or text.upper() in _by_upper_name():
            continue
        first, second = (_by_upper_name().get(_current(end)) for end in match.groups())
        if first and second and not {first, second} & EARS and second.upper() != common:
            pairs[place] = (first, second)
    return pairs


def _common_reference(names: Sequence[str]) -> str:
    """Return the second part of most names that have two, in capitals, "" for none."""
    halves = [re.split(BETWEEN, PREFIX.sub("", name.strip()), maxsplit=1) for name in names]
    seconds = Counter(
        _current(half[1])
        for half in halves
        if len(half) == 2 and half[1] and _current(half[0]) in _by_upper_name()
    )
    if not seconds:
        return ""
    name, n = seconds.most_common(1)[0]
    return name if n >= 2 and n > seconds.total() / 2 else ""


def _bare(name: str, common: str) -> str:
    """Return a name without prefix, reference and dots, in capitals; "" for ears with one."""
    whole = PREFIX.sub("", name.strip())
    first, *rest = re.split(BETWEEN, whole, maxsplit=1)
    text = first if rest and _current(rest[0]) == common else REFERENCE.sub("", whole)
    if text != whole and text.upper() in EARS:
        return ""
    return _current(text.rstrip(". "))


def _current(text: str) -> str:
    """Return a name in capitals, an old 10-20 name as its current one."""
    return RENAMED.get(text.upper(), text.upper())


def _cap_label(bare: str) -> str:
    """Return the label of an electrode of a net or cap, without zeros; "" for other names."""
    match = CAP_LABEL.fullmatch(bare)
    return f"{match[1]}{int(match[2])}" if match else ""


def _cap_of(bare: Sequence[str], egi: bool) -> Mapping[str, str]:
    """Canonical names by label of the smallest net or cap that has all labels; {} for none."""
    lettered = {label for label in map(_cap_label, bare) if label}
    numbered = {label for label in lettered if label[0] == "E"}
    for cap, least in CAPS.items():
        labels = numbered if cap.startswith("GSN") else lettered
        if len(labels) >= least and (egi or cap != NETS["33"]) and labels <= _labels(cap).keys():
            return _labels(cap)
    if egi and numbered:  # a part of a net
        usual = _labels("GSN-HydroCel-129")
        return usual if numbered <= usual.keys() else _labels(NETS["257"])
    return {}


def _counted(bare: Sequence[str]) -> set[str]:
    """Stems of counted names (``C1`` to ``C32``): most of their numbers are not 10-05 names."""
    known: Counter[str] = Counter()
    for text in set(bare):
        if match := re.fullmatch(r"([A-Z]+)\d+", text):
            known[match[1]] += 1 if text in _by_upper_name() else -1
    return {stem for stem, balance in known.items() if balance < 0}


def template_positions(canonical: Sequence[str]) -> np.ndarray:
    """(C, 3) unit vectors of canonical names; KeyError for any other."""
    points = [_template(template_name(name))[name] for name in canonical]
    return np.array(points, float).reshape(-1, 3)


def template_name(canonical: str) -> str:
    """Name of the template that holds a canonical name's position."""
    name, _, cap = canonical.partition("@")
    if cap:
        return NETS.get(cap, cap)
    return "GSN-HydroCel-129" if re.fullmatch(r"E\d+", name) else "10-05"


@cache
def _template(name: str) -> Mapping[str, np.ndarray]:
    """Return unit vectors by canonical name of the 10-05 system, a net or a cap; {} for others.

    The vertex of a net is that of the 10-05 system.
    """
    if name == "10-05":
        points = _montage("colin27_1005", "standard_1005")
        return {label: point for label, point in points.items() if label not in RENAMED}
    if name not in CAPS:
        return {}
    points = _montage(name)
    return {own: points[label] for label, own in _labels(name).items() if label in points}


@cache
def _labels(cap: str) -> Mapping[str, str]:
    """Canonical names by label of a net or cap; up to 64 BioSemi electrodes are at 10-20 places."""
    names = list(_montage(cap))
    if cap.startswith("GSN"):
        suffix = "".join(f"@{size}" for size, net in NETS.items() if net == cap)
        return {e: f"{e}{suffix}" for e in names if e != "Cz"} | {f"E{len(names)}": "Cz"}
    labels = [f"{'ABCDEFGH'[i // 32]}{i % 32 + 1}" for i in range(len(names))]
    if len(names) > 64:
        return {label: f"{label}@{cap}" for label in labels}
    return dict(zip(labels, names, strict=True))


@cache
def _by_upper_name() -> Mapping[str, str]:
    return {name.upper(): name for name in _template("10-05")}


def _montage(*names: str) -> dict[str, np.ndarray]:
    """Return unit vectors of the first of MNE's montages by these names that it has."""
    import mne

    there = set(mne.channels.get_builtin_montages())
    montage = mne.channels.make_standard_montage(next(name for name in names if name in there))
    info = mne.create_info(montage.ch_names, 100.0, "eeg")
    info.set_montage(montage, verbose="ERROR")  # transforms to head coordinates
    points = np.array([channel["loc"][:3] for channel in info["chs"]])
    directions = points - fit_sphere(points)[0]
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return dict(zip(info.ch_names, unit, strict=True))
