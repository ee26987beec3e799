"""Tell which channels of a recording are EEG, where on the head they are, and in which unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import first_few
from hbn_foundation.recordings.integrity import UnreadableRecording
from hbn_foundation.recordings.montage import (
    PREFIX,
    bipolar_pairs,
    canonical_names,
    match_names,
)
from hbn_foundation.recordings.positions import Places, place_electrodes
from hbn_foundation.recordings.units import header_units, volt_factors
from hbn_foundation.sidecars import UnreadableSidecar, inherited_json, read_table

NOT_EEG = re.compile(
    r"([HV]?E[OM]G|E[CK]G|CHIN|RESP|FLOW|NASAL|SNORE|THOR|ABD|CHEST|SPO2|SAO2|PULSE|PLETH|TEMP|"
    r"GSR|EDA|EXG|ERG|LEG|POSITION|PHOTIC|STI|TRIG|STATUS|MARK|EVENT|DC\d|ACC|GYR|AUX|ROC|LOC|"
    r"(\w+_)?(COUNTER|TIME_?STAMP|CQ|BATTERY)|INTERPOLATED)",
    re.IGNORECASE,
)
"""How names of what is recorded beside EEG begin."""

EYE = re.compile(r"E[12](?!\d)", re.IGNORECASE)
"""Electrodes beside the eyes, where no others are called E and a number."""

TYPED = re.compile(r"EEG[\s_:.\-]+", re.IGNORECASE)
"""How names of EEG begin where names tell what is recorded."""


@dataclass(frozen=True)
class Channels:
    """EEG channels of a recording that have a position.

    Attributes
    ----------
    picks
        Their columns in the file.
    names
        Canonical names.
    positions
        (C, 3) unit vectors in head coordinates.
    unknown
        EEG channels left out, as the file names them: without a known position, or with the name
        of another signal.
    bad
        Channels that the data set itself marks as bad, with the reason.
    notes
        What was guessed, left out or not read, a sentence each, for the quality table.
    positions_from
        What the positions come from: ``electrodes.tsv``, ``file``, ``template 10-05``.
    factors
        (C,) what the reader's numbers are multiplied by to be volts.
    """

    picks: list[int]
    names: list[str]
    positions: np.ndarray
    unknown: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    positions_from: str = ""
    factors: np.ndarray = field(default_factory=lambda: np.ones(0))


def eeg_channels(
    raw: Any,
    root: str | Path,
    path: str,
    bipolar: Literal["refuse", "midpoint"] = "refuse",
) -> Channels:
    """Pick the EEG channels of a recording and place them on the head.

    The type of a channel is that of channels.tsv where it names the channel, else that of the
    file, but for names of other signals. Where a channel is, `place_electrodes` tells; an EEG
    channel without a position is left out.

    Parameters
    ----------
    raw
        The recording.
    root, path
        The BIDS root, and the recording relative to it.
    bipolar
        What becomes of a recording of bipolar derivations: it is refused, or each derivation is
        taken for an electrode at the midpoint of its ends.

    Raises
    ------
    UnreadableRecording
        No EEG channel, bipolar derivations, most EEG channels without a position, or two channels
        of one name.
    """
    info, notes = inherited_json(root, path, "eeg.json")
    maker = _maker(info, path)
    names = [name.strip() for name in raw.ch_names]
    rows = _channel_table(root, path, names, maker, notes)
    units = header_units(raw, root, path)
    all_eeg = _electrodes(raw, names, rows, maker, units)
    eeg, places = _placed(raw, [e for e in all_eeg if not e.other], root, path, bipolar, notes)
    notes += places.notes
    _check_most_placed(eeg, places, notes)
    kept = [(e, i) for i, e in enumerate(eeg) if places.sources[i]]
    channel_names = [e.name or e.given for e, _ in kept]
    _check_names(channel_names, [e.given for e, _ in kept])
    unplaced = [e.pick for i, e in enumerate(eeg) if not places.sources[i]]
    return Channels(
        picks=[e.pick for e, _ in kept],
        names=channel_names,
        positions=places.positions[[i for _, i in kept]],
        unknown=[e.given for e in all_eeg if e.other or e.pick in unplaced],
        bad={name: e.bad for name, (e, _) in zip(channel_names, kept, strict=True) if e.bad},
        notes=notes,
        positions_from=_sources([places.sources[i] for _, i in kept]),
        factors=volt_factors(
            *(raw, path, units, [e.pick for e, _ in kept], [e.given for e, _ in kept]),
            *([e.row.get("units", "") for e, _ in kept], notes),
        ),
    )


def _placed(
    raw: Any,
    eeg: Sequence[_Electrode],
    root: str | Path,
    path: str,
    bipolar: str,
    notes: list[str],
) -> tuple[list[_Electrode], Places]:
    """Place the electrodes, or the derivations where these prevail; the fewer are left out."""
    pairs = bipolar_pairs([e.given for e in eeg])
    derived = [eeg[i] for i in pairs]
    # of electrodes without known names, which are only placed by measurement, all count
    single = sum(e.name is not None for e in eeg) or len(eeg) - len(pairs)
    if len(pairs) <= single:
        if pairs:
            notes.append(f"bipolar derivations left out: {', '.join(e.given for e in derived)}")
        rest = [e for i, e in enumerate(eeg) if i not in pairs]
        given, names = [e.given for e in rest], [e.name for e in rest]
        return rest, place_electrodes(given, names, _in_file(raw, rest), root, path)
    if bipolar == "refuse":
        raise UnreadableRecording(
            f"bipolar derivations ({first_few(e.given for e in derived)}): {len(pairs)} of "
            f"{len(eeg)} "
            "EEG channels; cleaning.bipolar: midpoint takes each for an electrode halfway between "
            "its ends"
        )
    if len(pairs) < len(eeg):
        beside = [e.given for i, e in enumerate(eeg) if i not in pairs]
        notes.append(f"channels beside bipolar derivations left out: {', '.join(beside)}")
    return _midpoints(derived, list(pairs.values()), root, path)


@dataclass(frozen=True)
class _Electrode:
    """A channel that is EEG by its type, at column `pick` of the file.

    It is `other` where only the file calls it EEG, as it does all channels, and its name or unit
    does not.
    """

    pick: int
    given: str
    name: str | None
    row: Mapping[str, str]
    other: bool

    @property
    def bad(self) -> str:
        """Why channels.tsv calls it bad, "" when it does not."""
        if self.row.get("status", "").lower() != "bad":
            return ""
        why = self.row.get("status_description", "")
        return "channels.tsv" + (f": {why}" if why.lower() not in ("", "n/a") else "")


def _maker(info: Mapping[str, Any], path: str) -> str:
    keys = ("Manufacturer", "CapManufacturer", "CapManufacturersModelName")
    of_egi = "EGI" if path.lower().endswith((".raw", ".mff")) else ""
    return " ".join([of_egi, *(str(info.get(key, "")) for key in keys)])


def _kind(row: Mapping[str, str]) -> str:
    """Type of a channel by channels.tsv, "" where it says none."""
    said = row.get("type", "").upper()
    return "" if said == "N/A" else said


def _channel_table(
    root: str | Path, path: str, names: Sequence[str], maker: str, notes: list[str]
) -> dict[int, dict[str, str]]:
    """Rows of channels.tsv by the channel's place in the file; empty when there is no such file."""
    file = sidecar(root, path, "channels.tsv")
    if file is None:
        return {}
    try:
        table = read_table(file)
    except UnreadableSidecar as error:
        notes.append(f"{error}: no types and bad channels from it")
        return {}
    notes += table.notes
    rows = [{column.lower(): cell for column, cell in row.items()} for row in table.rows]
    matched = match_names(names, [row.get("name", "") for row in rows], maker)
    spare = [row.get("name", "") for i, row in enumerate(rows) if i not in matched.values()]
    known = {rows[i].get("name", "") for i in matched.values()}
    twice = sorted({name for name in spare if name in known})
    strange = [name for name in spare if name not in known]
    if not matched:
        notes.append(
            f"{file.name} names no channel of the file ({first_few(strange) or 'no rows'}): no "
            "types and bad channels from it"
        )
    elif strange:
        notes.append(f"{file.name} names channels that the file lacks: {first_few(strange)}")
    if twice:
        notes.append(f"{file.name} has several rows of {first_few(twice)}: the first counts")
    return {own: rows[other] for own, other in matched.items()}


def _electrodes(
    raw: Any,
    names: Sequence[str],
    rows: Mapping[int, Mapping[str, str]],
    maker: str,
    units: Sequence[str],
) -> list[_Electrode]:
    """Pick the channels that channels.tsv, else the file, calls EEG.

    Where names begin with a type, as in EDF+ (``EEG Fz-Ref``, ``POL X1``), only those of EEG do.
    """
    types = [kind.upper() for kind in raw.get_channel_types()]
    picks = [i for i, kind in enumerate(types) if (_kind(rows.get(i, {})) or kind) == "EEG"]
    if not picks:
        raise UnreadableRecording(
            f"no EEG channel among {len(types)} ({', '.join(sorted(set(types)))})"
        )
    given = [_without_counter(names[i], names) for i in picks]
    canonical = canonical_names(given, maker)
    plain = [PREFIX.sub("", name) for name in given]
    eyes = not any(re.match(r"E0*([3-9]|\d\d)", name, re.IGNORECASE) for name in plain)
    pairs = bipolar_pairs(given)
    typed = any(TYPED.match(given[i]) for i, name in enumerate(canonical) if name is not None)
    other = [
        bool(
            NOT_EEG.match(name)
            or (eyes and EYE.match(name))
            or (typed and not TYPED.match(own) and i not in pairs)
            or (units and units[pick] and "v" not in units[pick].lower())
        )
        for i, (pick, own, name) in enumerate(zip(picks, given, plain, strict=True))
    ]
    electrodes = []
    for i, (pick, own, name) in enumerate(zip(picks, given, canonical, strict=True)):
        row = rows.get(pick, {})
        unlike = other[i] and name is None and not _kind(row)
        electrodes.append(_Electrode(pick, own, name, row, unlike))
    return electrodes


def _without_counter(name: str, given: Sequence[str]) -> str:
    """Undo the running numbers that MNE appends to names that occur twice (``Fz-0``, ``Fz-1``)."""
    match = re.fullmatch(r"(.+)-(\d+)", name)
    if match and sum(other.startswith(f"{match[1]}-") for other in given) > 1:
        return match[1]
    return name


def _in_file(raw: Any, electrodes: Sequence[_Electrode]) -> np.ndarray:
    """(C, 3) positions in the file in metres, NaN where there is none."""
    points = np.array([raw.info["chs"][e.pick]["loc"][:3] for e in electrodes], float)
    points = points.reshape(-1, 3)
    points[(np.abs(points) < 1e-9).all(axis=1)] = np.nan
    return points


def _midpoints(
    derived: Sequence[_Electrode], pairs: Sequence[tuple[str, str]], root: str | Path, path: str
) -> tuple[list[_Electrode], Places]:
    """Place derivations halfway between their ends; one that occurs again is left out.

    Ends on opposite sides of the head have no place between them.
    """
    first = dict(reversed(list(zip(pairs, derived, strict=True))))
    order = list(dict.fromkeys(pairs))
    ends = [end for pair in order for end in pair]
    places = place_electrodes(ends, ends, np.full((len(ends), 3), np.nan), root, path)
    middle = places.positions.reshape(-1, 2, 3).mean(axis=1)
    length = np.linalg.norm(middle, axis=1, keepdims=True)
    middle = np.where(length > 0.6, middle / np.maximum(length, 0.6), np.nan)
    sources = [places.sources[2 * i] if np.isfinite(p).all() else "" for i, p in enumerate(middle)]
    notes = [*places.notes, "bipolar derivations, each taken for an electrode between its ends"]
    if len(order) < len(derived):
        notes.append(f"{len(derived) - len(order)} derivations that occur again left out")
    electrodes = [replace(first[pair], name="-".join(pair)) for pair in order]
    return electrodes, Places(middle, sources, notes)


def _check_most_placed(eeg: Sequence[_Electrode], places: Places, notes: Sequence[str]) -> None:
    unplaced = [e.given for e, source in zip(eeg, places.sources, strict=True) if not source]
    if not eeg:
        raise UnreadableRecording(
            "no EEG channel: by channels.tsv, their names or units all are other signals"
        )
    if 2 * len(unplaced) > len(eeg):
        reasons = "; ".join(notes)
        raise UnreadableRecording(
            f"no positions for {len(unplaced)} of {len(eeg)} EEG channels ({first_few(unplaced)}): "
            "their names say none, and neither electrodes.tsv nor the file does"
            + (f" ({reasons})" if reasons else "")
        )


def _check_names(names: Sequence[str], given: Sequence[str]) -> None:
    counts = Counter(names)
    twice = [own for name, own in zip(names, given, strict=True) if counts[name] > 1]
    if twice:
        same = first_few(sorted(name for name, n in counts.items() if n > 1))
        raise UnreadableRecording(
            f"duplicate channel names: {same} (in the file: {first_few(twice)})"
        )


def _sources(sources: Sequence[str]) -> str:
    """Put what the positions come from in words, with the numbers where there are several."""
    counts = Counter(sources).most_common()
    return ", ".join(name if len(counts) == 1 else f"{name} ({n})" for name, n in counts)
