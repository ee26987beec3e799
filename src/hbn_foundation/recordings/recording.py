"""Open a recording so that what is read from it is its EEG: rate, filters, gaps, bad segments.

Cleaning and the local score open recordings here, so that both follow the same rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hbn_foundation.errors import first_few
from hbn_foundation.recordings.channels import Channels, eeg_channels
from hbn_foundation.recordings.edf import EdfHeader, low_pass, read_edf_header
from hbn_foundation.recordings.integrity import UnreadableRecording, is_passing
from hbn_foundation.recordings.marks import Gaps, find_gaps
from hbn_foundation.recordings.read import check_length, one_line, read_raw, read_sidecar
from hbn_foundation.recordings.timeline import Timeline, merged

STILL_SECONDS = 1.0
"""Seconds without a change in any channel that are a pause."""

MOST_VOLTS = 1e15
"""Samples beyond this are none: single precision overflows where they are squared."""

CHUNK_SECONDS = 60.0
"""Seconds looked through at a time."""


@dataclass(frozen=True)
class Recording:
    """An open recording; nothing of it is in memory.

    Attributes
    ----------
    raw
        MNE's object. Where channels differ in rate it has the EEG channels alone.
    channels
        EEG channels that have a position.
    info
        Content of eeg.json.
    gaps
        Continuous stretches and bad segments in samples of the file.
    lowpass
        Low-pass of the EEG channels in Hz as the file has it; NaN where it says nothing.
    notes
        What was left out, guessed or not read, a sentence each.
    """

    raw: Any
    channels: Channels
    info: Mapping[str, Any]
    gaps: Gaps
    lowpass: float
    notes: list[str]

    @property
    def sfreq(self) -> float:
        """Sampling rate of the EEG channels in Hz."""
        return float(self.raw.info["sfreq"])

    def longest_stretches(self, min_seconds: float) -> tuple[Timeline, float]:
        """Timeline of the stretches that are long enough, and the seconds of the others.

        Raises
        ------
        UnreadableRecording
            No stretch is.
        """
        timeline = self.gaps.timeline
        lengths = [(stop - start) / self.sfreq for start, stop, _ in timeline.stretches]
        longest = max(lengths, default=0.0)
        if longest < min_seconds:
            of = f" (the longest of {len(lengths)} stretches)" if len(lengths) > 1 else ""
            raise UnreadableRecording(
                f"too short: {longest:.2f} s{of}, at least {min_seconds:g} s are needed"
            )
        kept = [length >= min_seconds for length in lengths]
        stretches = [s for s, keep in zip(timeline.stretches, kept, strict=True) if keep]
        bad = [b for b in timeline.bad if any(s.start <= b.start < s.stop for s in stretches)]
        dropped = sum(length for length, keep in zip(lengths, kept, strict=True) if not keep)
        return replace(timeline, stretches=tuple(stretches), bad=tuple(bad)), dropped

    def read(self, start: int, stop: int, picks: list[int] | None = None) -> np.ndarray:
        """Read samples (C, stop − start) in volts of some columns of `channels`, by default all.

        They are NaN where they cannot be voltages.

        Raises
        ------
        UnreadableRecording
            They are not there.
        """
        picks = self.channels.picks if picks is None else picks
        try:
            samples = self.raw.get_data(picks=picks, start=start, stop=stop, verbose="ERROR")
        except Exception as error:
            if is_passing(error):
                raise
            raise UnreadableRecording(
                f"truncated or damaged: cannot be read from {start / self.sfreq:.1f} s "
                f"({one_line(error)})"
            ) from error
        if samples.shape[1] != stop - start:
            raise UnreadableRecording(
                f"truncated: {samples.shape[1]} of {stop - start} samples from sample {start}"
            )
        factors = dict(zip(self.channels.picks, self.channels.factors, strict=True))
        samples *= np.array([[factors[pick]] for pick in picks])
        samples[np.abs(samples) > MOST_VOLTS] = np.nan
        return samples

    def still(self) -> list[tuple[int, int]]:
        """Find samples (start, stop) during which no channel moves for `STILL_SECONDS`.

        These are pauses that the file does not mark, filled with zeros or the last value. A
        recording that never moves has none: it is flat.
        """
        picks, n = self.channels.picks, int(self.raw.n_times)
        few = picks[:: max(len(picks) // 2, 1)]
        length, chunk = round(STILL_SECONDS * self.sfreq), round(CHUNK_SECONDS * self.sfreq)
        runs: list[tuple[int, int]] = []
        for start in range(0, n, chunk):
            first, stop = max(start - 1, 0), min(start + chunk, n)
            found = _still_runs(self.read(first, stop, few), length)
            if found and len(picks) > len(few):
                found = _still_runs(self.read(first, stop), length)
            runs += [(first + a, first + b) for a, b in found]
        joined = [(a, b) for a, b in merged(runs) if b - a >= length]
        return joined if sum(b - a for a, b in joined) < n else []


def _still_runs(samples: np.ndarray, length: int) -> list[tuple[int, int]]:
    """Start and stop of runs without a change in (C, T), from `length` on or at the ends."""
    same = np.ones(samples.shape[1] - 1, bool)
    for x in samples:
        same &= (x[1:] == x[:-1]) | (np.isnan(x[1:]) & np.isnan(x[:-1]))
        if not same.any():
            return []
    edges = np.flatnonzero(np.diff(same, prepend=False, append=False)).reshape(-1, 2)
    ends = (0, len(same))
    return [(a, b + 1) for a, b in edges.tolist() if b - a >= length or a in ends or b in ends]


def open_recording(
    root: str, path: str, bipolar: Literal["refuse", "midpoint"] = "refuse"
) -> Recording:
    """Open a recording of a BIDS root; `bipolar` as for `eeg_channels`.

    Raises
    ------
    UnreadableRecording
        With the reason, whatever makes the recording unusable.
    """
    file = Path(root, path)
    notes: list[str] = []
    raw = read_raw(file, notes)
    info = read_sidecar(root, path)
    check_length(raw, path, info)
    channels = eeg_channels(raw, root, path, bipolar)
    header = read_edf_header(file) if file.suffix.lower() in (".edf", ".bdf") else None
    lowpass = _lowpass(raw, file, channels, header, notes)
    if header is not None:
        raw, channels = _at_own_rate(raw, file, channels, header, notes)
    gaps = find_gaps(raw, root, path, header)
    recording = Recording(raw, channels, info, gaps, lowpass, [*channels.notes, *notes])
    gaps = gaps.without(recording.still())
    return replace(recording, gaps=gaps, notes=[*recording.notes, *gaps.notes])


def _at_own_rate(
    raw: Any, file: Path, channels: Channels, header: EdfHeader, notes: list[str]
) -> tuple[Any, Channels]:
    """Open an EDF or BDF file at the rate of its EEG channels where others are faster.

    MNE brings all channels it opens to the highest rate, and does so wrongly where it reads a
    part that does not begin with a data record.
    """
    signals = header.channels
    if len(signals) != len(raw.ch_names):
        raise UnreadableRecording(
            f"{len(raw.ch_names)} channels, but {len(signals)} signals in its header"
        )
    samples = [header.samples[signals[pick]] for pick in channels.picks]
    counts = Counter(samples)
    chosen = max(counts, key=lambda n: (counts[n], n))
    if chosen == max(header.samples[i] for i in signals) and len(counts) == 1:
        return raw, channels
    kept = [i for i, n in enumerate(samples) if n == chosen]
    if len(kept) < len(samples):
        others = [channels.names[i] for i, n in enumerate(samples) if n != chosen]
        notes.append(
            f"EEG channels left out, as they are not sampled at {chosen / header.record_seconds:g} "
            f"Hz like most: {', '.join(others)}"
        )
    names = [raw.ch_names[channels.picks[i]] for i in kept]
    raw = read_raw(file, notes, include=names, exclude_after_unique=True)
    channels = replace(
        channels,
        picks=[raw.ch_names.index(name) for name in names],
        names=[channels.names[i] for i in kept],
        positions=channels.positions[kept],
        factors=channels.factors[kept],
        bad={n: why for n, why in channels.bad.items() if n in {channels.names[i] for i in kept}},
    )
    return raw, channels


def _lowpass(
    raw: Any, file: Path, channels: Channels, header: EdfHeader | None, notes: list[str]
) -> float:
    """Low-pass of most EEG channels in Hz; NaN where the file says nothing.

    EDF and BrainVision have filters for each channel, of which MNE keeps the lowest or highest of
    all channels, whatever they record; other formats have one for the file.
    """
    if header is not None:
        signals = header.channels
        values = [low_pass(header.prefilters[signals[pick]]) for pick in channels.picks]
    elif file.suffix.lower() == ".vhdr":
        table = _brainvision_lowpass(file, raw.ch_names)
        values = [table.get(raw.ch_names[pick], raw.info["lowpass"]) for pick in channels.picks]
    else:
        values = [raw.info["lowpass"]] * len(channels.picks)
    known = [float(v) if v and np.isfinite(v) and v > 0 else np.inf for v in values]
    counts = Counter(known)
    chosen = max(counts, key=lambda value: (counts[value], value))
    if len(counts) > 1:
        names = [f"{channels.names[i]} ({v:g} Hz)" for i, v in enumerate(known) if v != chosen]
        most = f"{chosen:g} Hz" if np.isfinite(chosen) else "none"
        notes.append(
            f"low-pass of most EEG channels, by the file's header: {most}; others: "
            f"{first_few(names)}"
        )
    return chosen if np.isfinite(chosen) else float("nan")


def _brainvision_lowpass(file: Path, names: list[str]) -> dict[str, float]:
    """High cutoffs in Hz by channel, of a BrainVision header's last table of filters.

    The software filters come after the amplifier's and hold where both are. Channels without a
    filter, and a header without a table, give NaN or nothing.
    """
    lines = file.read_bytes().decode("utf-8", "replace").splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith("#") and "High Cutoff" in line]
    found: dict[str, float] = {}
    for place in places:
        columns = re.split(r"\s\s+", lines[place].strip())
        at = next(i for i, column in enumerate(columns) if column.startswith("High Cutoff"))
        named = "Name" in columns
        seconds = "[s]" in columns[at]
        for name, line in zip(names, lines[place + 1 :], strict=False):
            cells = line.split()
            shift = ("Resolution / Unit" in columns) + named * (len(name.split()) - 1)
            try:
                value = float(cells[at + shift])
            except (IndexError, ValueError):  # Off, NaN, or no line of this table
                found[name] = float("nan")
                continue
            found[name] = 1 / (2 * np.pi * value) if seconds and value > 0 else value
    return found
