"""Find the EEG channels of a recording, their positions and their units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import first_few
from hbn_foundation.recordings.montage import PREFIX, bipolar_pairs, canonical_names, match_names
from hbn_foundation.recordings.positions import place_electrodes
from hbn_foundation.recordings.read import EegFile, UnreadableRecording
from hbn_foundation.recordings.units import volt_factors
from hbn_foundation.sidecars import read_rows

NOT_EEG = re.compile(
    r"([HV]?E[OM]G|E[CK]G|CHIN|RESP|FLOW|NASAL|SNORE|THOR|ABD|CHEST|SPO2|SAO2|PULSE|PLETH|TEMP|"
    r"GSR|EDA|EXG|ERG|LEG|POSITION|PHOTIC|STI|TRIG|STATUS|MARK|EVENT|DC\d|ACC|GYR|AUX|ROC|LOC|"
    r"(\w+_)?(COUNTER|TIME_?STAMP|CQ|BATTERY)|INTERPOLATED)",
    re.IGNORECASE,
)
"""Beginnings of the names of other signals than EEG."""

EYE = re.compile(r"E[12](?!\d)", re.IGNORECASE)
"""Electrodes beside the eyes, unless there are others named E and a number."""

TYPED = re.compile(r"EEG[\s_:.\-]+", re.IGNORECASE)
"""Beginning of the names of EEG channels in files whose names begin with a type."""


@dataclass(frozen=True)
class Channels:
    """EEG channels of a recording that have a position.

    `picks` are their columns in the file, `names` canonical, `positions` (C, 3) unit vectors in
    head coordinates that come from `positions_from`: ``electrodes.tsv``, ``file``, ``template
    10-05``. The reader's numbers times `factors` (C,) are volts. `unknown` are EEG channels left
    out, as the file names them: without a known position, or with the name of another signal.
    `bad` are the reasons why the data set itself marks channels as bad.
    """

    picks: list[int]
    names: list[str]
    positions: np.ndarray
    factors: np.ndarray
    positions_from: str
    unknown: list[str]
    bad: dict[str, str]


@dataclass(frozen=True)
class _Electrode:
    """A channel that is EEG by its type, at column `pick` of the file and named `given` there.

    `row` is its row of channels.tsv. It is `other` where its name or unit is that of another signal
    and channels.tsv gives no type: some formats call all channels EEG.
    """

    pick: int
    given: str
    name: str | None
    row: Mapping[str, str]
    other: bool

    @property
    def label(self) -> str:
        """Its canonical name, else its name in the file."""
        return self.name or self.given

    @property
    def bad(self) -> str:
        """Why channels.tsv calls it bad, "" when it does not."""
        if self.row.get("status", "").lower() != "bad":
            return ""
        why = self.row.get("status_description", "")
        return "channels.tsv" + (f": {why}" if why.lower() not in ("", "n/a") else "")


def eeg_channels(file: EegFile, bipolar: Literal["refuse", "midpoint"] = "refuse") -> Channels:
    """Pick the EEG channels of a recording and place them on the head.

    The type of a channel is that of channels.tsv where it names the channel, else that of the
    file, except for names of other signals. `place_electrodes` gives the positions; an EEG
    channel without a position is left out. What is guessed or left out is added to the file's
    notes. Of bipolar derivations, `bipolar` refuses the recording, or takes each for an electrode
    at the midpoint of its ends.

    Raises
    ------
    UnreadableRecording
        No EEG channel, bipolar derivations, most EEG channels without a position, or two channels
        of one name.
    """
    every = _eeg_by_type(file)
    electrodes, positions, sources = _placed(file, [e for e in every if not e.other], bipolar)
    unplaced = [e for e, source in zip(electrodes, sources, strict=True) if not source]
    if not electrodes:
        raise UnreadableRecording(
            "no EEG channel: by channels.tsv, their names or units all are other signals"
        )
    if 2 * len(unplaced) > len(electrodes):
        reasons = f" ({'; '.join(file.notes)})" if file.notes else ""
        raise UnreadableRecording(
            f"no positions for {len(unplaced)} of {len(electrodes)} EEG channels "
            f"({first_few(e.given for e in unplaced)}): their names say none, and neither "
            f"electrodes.tsv nor the file does{reasons}"
        )
    kept = [i for i, source in enumerate(sources) if source]
    labels = Counter(electrodes[i].label for i in kept)
    if same := sorted(label for label, n in labels.items() if n > 1):
        twice = first_few(electrodes[i].given for i in kept if electrodes[i].label in same)
        raise UnreadableRecording(
            f"duplicate channel names: {first_few(same)} (in the file: {twice})"
        )
    kept = _at_common_rate(file, electrodes, kept)
    chosen = [electrodes[i] for i in kept]
    picks, given = [e.pick for e in chosen], [e.given for e in chosen]
    counts = Counter(sources[i] for i in kept).most_common()
    return Channels(
        picks=picks,
        names=[e.label for e in chosen],
        positions=positions[kept],
        factors=volt_factors(file, picks, given, [e.row.get("units", "") for e in chosen]),
        positions_from=", ".join(s if len(counts) == 1 else f"{s} ({n})" for s, n in counts),
        unknown=[e.given for e in every if e.other or e.pick in {u.pick for u in unplaced}],
        bad={e.label: why for e in chosen if (why := e.bad or _bad_in_file(file, e))},
    )


def _bad_in_file(file: EegFile, electrode: _Electrode) -> str:
    """Say that MNE's `bads` name a channel; of the formats read, FIF alone keeps them."""
    bads = file.raw.info["bads"]
    return "marked in the file" if bads and file.raw.ch_names[electrode.pick] in bads else ""


def _eeg_by_type(file: EegFile) -> list[_Electrode]:
    """Pick the channels whose type is EEG by channels.tsv, else by the file.

    Where names begin with a type, as in EDF+ (``EEG Fz-Ref``, ``POL X1``), only those of EEG do.
    """
    # MNE appends a number to names that occur twice
    in_file = file.header.names if file.header else file.raw.ch_names
    names = [name.strip() for name in in_file]
    keys = ("Manufacturer", "CapManufacturer", "CapManufacturersModelName")
    maker = "EGI " if file.ending in (".raw", ".mff") else ""
    maker += " ".join(str(file.info.get(key, "")) for key in keys)
    rows = _channel_table(file, names, maker)
    declared = {
        i: kind for i, row in rows.items() if (kind := row.get("type", "").upper()) != "N/A"
    }
    types = [kind.upper() for kind in file.raw.get_channel_types()]
    picks = [i for i, kind in enumerate(types) if (declared.get(i) or kind) == "EEG"]
    if not picks:
        raise UnreadableRecording(
            f"no EEG channel among {len(types)} ({', '.join(sorted(set(types)))})"
        )
    given = [names[i] for i in picks]
    canonical = canonical_names(given, maker)
    pairs = bipolar_pairs(given)
    units = file.header.units if file.header else [""] * len(names)
    plain = [PREFIX.sub("", name) for name in given]
    eyes = not any(re.match(r"E0*([3-9]|\d\d)", name, re.IGNORECASE) for name in plain)
    typed = any(TYPED.match(given[i]) for i, name in enumerate(canonical) if name is not None)

    def is_other(i: int) -> bool:
        return bool(
            NOT_EEG.match(plain[i])
            or (eyes and EYE.match(plain[i]))
            or (typed and not TYPED.match(given[i]) and i not in pairs)
            or (units[picks[i]] and "v" not in units[picks[i]].lower())
        )

    return [
        _Electrode(
            pick,
            given[i],
            canonical[i],
            rows.get(pick, {}),
            other=canonical[i] is None and not declared.get(pick) and is_other(i),
        )
        for i, pick in enumerate(picks)
    ]


def _channel_table(file: EegFile, names: Sequence[str], maker: str) -> dict[int, dict[str, str]]:
    """Rows of channels.tsv by the channel's place in the file; empty when there is no such file."""
    path = sidecar(file.root, file.path, "channels.tsv")
    rows = None if path is None else read_rows(path, file.notes, "types and bad channels")
    if path is None or rows is None:
        return {}
    listed = [row.get("name", "") for row in rows]
    matched = match_names(names, listed, maker)
    known = {listed[i] for i in matched.values()}
    spare = [name for i, name in enumerate(listed) if i not in matched.values()]
    twice = sorted({name for name in spare if name in known})
    strange = first_few(name for name in spare if name not in known)
    if not matched:
        file.notes.append(
            f"{path.name} names no channel of the file ({strange or 'no rows'}): no types and bad "
            "channels from it"
        )
    elif strange:
        file.notes.append(f"{path.name} names channels that the file lacks: {strange}")
    if twice:
        file.notes.append(f"{path.name} has several rows of {first_few(twice)}: the first counts")
    return {own: rows[other] for own, other in matched.items()}


def _placed(
    file: EegFile, eeg: list[_Electrode], bipolar: str
) -> tuple[list[_Electrode], np.ndarray, list[str]]:
    """Place the electrodes, or the derivations if these are more; the others are left out.

    Returns them with their positions (C, 3) and the sources of these, "" for none.
    """
    pairs = bipolar_pairs([e.given for e in eeg])
    derived = [eeg[i] for i in pairs]
    rest = [e for i, e in enumerate(eeg) if i not in pairs]
    # where no name is known and only measurement places electrodes, all count
    single = sum(e.name is not None for e in eeg) or len(rest)
    if len(pairs) <= single:
        if pairs:
            names = ", ".join(e.given for e in derived)
            file.notes.append(f"bipolar derivations left out: {names}")
        points = [file.raw.info["chs"][e.pick]["loc"][:3] for e in rest]
        in_file = np.array(points, float).reshape(-1, 3)
        in_file[(np.abs(in_file) < 1e-9).all(axis=1)] = np.nan
        given, canonical = [e.given for e in rest], [e.name for e in rest]
        return rest, *place_electrodes(given, canonical, in_file, file.root, file.path, file.notes)
    if bipolar == "refuse":
        raise UnreadableRecording(
            f"bipolar derivations ({first_few(e.given for e in derived)}): {len(pairs)} of "
            f"{len(eeg)} EEG channels; cleaning.bipolar: midpoint takes each for an electrode "
            "halfway between its ends"
        )
    if rest:
        names = ", ".join(e.given for e in rest)
        file.notes.append(f"channels beside bipolar derivations left out: {names}")
    return _midpoints(file, derived, list(pairs.values()))


def _midpoints(
    file: EegFile, derived: Sequence[_Electrode], pairs: Sequence[tuple[str, str]]
) -> tuple[list[_Electrode], np.ndarray, list[str]]:
    """Place derivations halfway between their ends; one that occurs again is left out.

    Ends on opposite sides of the head have no midpoint on it.
    """
    first = dict(reversed(list(zip(pairs, derived, strict=True))))
    order = list(dict.fromkeys(pairs))
    ends = [end for pair in order for end in pair]
    nowhere = np.full((len(ends), 3), np.nan)
    places, sources = place_electrodes(ends, ends, nowhere, file.root, file.path, file.notes)
    middle = places.reshape(-1, 2, 3).mean(axis=1)
    length = np.linalg.norm(middle, axis=1, keepdims=True)
    middle = np.where(length > 0.6, middle / np.maximum(length, 0.6), np.nan)
    sources = [sources[2 * i] if np.isfinite(p).all() else "" for i, p in enumerate(middle)]
    file.notes.append("bipolar derivations, each taken for an electrode between its ends")
    if len(order) < len(pairs):
        file.notes.append(f"{len(pairs) - len(order)} derivations that occur again left out")
    return [replace(first[pair], name="-".join(pair)) for pair in order], middle, sources


def _at_common_rate(file: EegFile, electrodes: Sequence[_Electrode], kept: list[int]) -> list[int]:
    """Keep the channels with the rate of most; in EDF and BDF files each has its own."""
    if file.header is None:
        return kept
    samples = {i: file.header.samples[electrodes[i].pick] for i in kept}
    counts = Counter(samples.values())
    common = max(counts, key=lambda n: (counts[n], n))
    others = [electrodes[i].label for i in kept if samples[i] != common]
    if others:
        file.notes.append(
            "EEG channels left out, as they are not sampled at "
            f"{common / file.header.record_seconds:g} Hz like most: {', '.join(others)}"
        )
    return [i for i in kept if samples[i] == common]
