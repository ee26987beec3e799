"""Open a recording with its EEG's own rate, filters, gaps and bad segments.

Cleaning and the local score open recordings here, so that both follow the same rules.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from hbn_foundation.errors import first_few, one_line
from hbn_foundation.recordings.channels import Channels, eeg_channels
from hbn_foundation.recordings.edf import cutoff
from hbn_foundation.recordings.marks import find_gaps
from hbn_foundation.recordings.read import (
    EegFile,
    UnreadableRecording,
    is_transient,
    open_file,
    read_raw,
)
from hbn_foundation.recordings.timeline import Timeline, merged
from hbn_foundation.sidecars import number

FILTERS = {"HP": ("Low Cutoff", "highpass"), "LP": ("High Cutoff", "lowpass")}
"""Columns of BrainVision headers, and MNE's names."""
STILL_SECONDS = 1.0
"""Seconds without a change in any channel that are a pause."""

MOST_VOLTS = 1e15
"""Samples beyond this are invalid: their squares overflow single precision."""

CHUNK_SECONDS = 60.0
"""Seconds searched at a time."""


@dataclass(frozen=True)
class Recording:
    """An open recording; nothing of it is in memory.

    The open `file` has the EEG channels alone where channels differ in rate. `channels` are the
    EEG channels that have a position, `highpass` and `lowpass` are theirs in Hz by the file, 0 and
    infinite where it has none. The `timeline` counts samples of the file; `pauses` are seconds that
    were not recorded.
    """

    file: EegFile
    channels: Channels
    highpass: float
    lowpass: float
    timeline: Timeline
    pauses: float

    @property
    def sfreq(self) -> float:
        """Sampling rate of the EEG channels in Hz."""
        return float(self.file.raw.info["sfreq"])

    def longest_stretches(self, min_seconds: float) -> tuple[Timeline, float]:
        """Timeline of the stretches that are long enough, and the seconds of the others.

        UnreadableRecording where no stretch is long enough.
        """
        stretches = self.timeline.stretches
        longest = max((s.stop - s.start for s in stretches), default=0) / self.sfreq
        if longest < min_seconds:
            of = f" (the longest of {len(stretches)} stretches)" if len(stretches) > 1 else ""
            raise UnreadableRecording(
                f"too short: {longest:.2f} s{of}, at least {min_seconds:g} s are needed"
            )
        short = [s for s in stretches if (s.stop - s.start) / self.sfreq < min_seconds]
        kept = self.timeline.without([(start, stop) for start, stop, _ in short])
        return kept, sum(stop - start for start, stop, _ in short) / self.sfreq

    def read(self, start: int, stop: int, picks: list[int] | None = None) -> np.ndarray:
        """Read samples (C, stop − start) in volts of some columns of `channels`, by default all.

        They are NaN where they cannot be voltages; UnreadableRecording where they are missing or
        damaged.
        """
        picks = self.channels.picks if picks is None else picks
        try:
            samples = self.file.raw.get_data(picks, start, stop, verbose="ERROR")
        except Exception as error:
            if is_transient(error):
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
        recording that never moves has none; it is flat.
        """
        picks, n = self.channels.picks, int(self.file.raw.n_times)
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

    UnreadableRecording with the reason, whatever makes the recording unusable.
    """
    return recording_of(open_file(root, path), bipolar)


def recording_of(file: EegFile, bipolar: Literal["refuse", "midpoint"] = "refuse") -> Recording:
    """Find channels, filters and continuous stretches of an open file, as `open_recording`."""
    channels = eeg_channels(file, bipolar)
    edges = _highpass(file, channels), _lowpass(file, channels)
    file, channels = _at_own_rate(file, channels)
    timeline = find_gaps(file)
    recording = Recording(file, channels, *edges, timeline, timeline.pauses)
    moving = timeline.without(recording.still())
    still = (timeline.n_samples - moving.n_samples) / timeline.sfreq
    if not still:
        return recording
    file.notes.append(f"{still:.1f} s in which no channel moves (pauses that nothing marks)")
    return replace(recording, timeline=moving, pauses=recording.pauses + still)


def _at_own_rate(file: EegFile, channels: Channels) -> tuple[EegFile, Channels]:
    """Open an EDF or BDF file at the rate of its EEG channels where others are faster.

    MNE brings all channels it opens to the highest rate, and does so wrongly where it reads a
    part that does not begin with a data record.
    """
    if file.header is None:
        return file, channels
    samples = file.header.samples
    if samples[channels.picks[0]] == max(samples):
        return file, channels
    names = [file.raw.ch_names[pick] for pick in channels.picks]
    path = Path(file.root, file.path)
    raw = read_raw(path, file.notes, include=names, exclude_after_unique=True)
    picks = [raw.ch_names.index(name) for name in names]
    return replace(file, raw=raw), replace(channels, picks=picks)


def _cutoffs(file: EegFile, channels: Channels, kind: str) -> list[float]:
    """Cutoffs in Hz of the filters of EEG channels, `HP` or `LP`; 0, NaN or infinite: none.

    EDF and BrainVision have filters for each channel, of which MNE keeps the lowest or highest of
    all channels, whatever they record; other formats have one for the file.
    """
    if file.header is not None:
        return [cutoff(kind, file.header.prefilters[pick]) for pick in channels.picks]
    column, of_file = FILTERS[kind]
    table = _brainvision_cutoffs(file, column) if file.ending == ".vhdr" else {}
    values = [table.get(file.raw.ch_names[p], file.raw.info[of_file]) for p in channels.picks]
    return [float(value or 0) for value in values]


def _highpass(file: EegFile, channels: Channels) -> float:
    """High-pass of most EEG channels in Hz; 0 where the file has none."""
    counts = Counter(v if v > 0 else 0.0 for v in _cutoffs(file, channels, "HP"))
    return max(counts, key=lambda value: (counts[value], -value))


def _lowpass(file: EegFile, channels: Channels) -> float:
    """Low-pass of most EEG channels in Hz; infinite where the file has none."""
    known = [v if v > 0 else np.inf for v in _cutoffs(file, channels, "LP")]
    counts = Counter(known)
    chosen = max(counts, key=lambda value: (counts[value], value))
    if len(counts) > 1:
        others = [f"{channels.names[i]} ({v:g} Hz)" for i, v in enumerate(known) if v != chosen]
        most = f"{chosen:g} Hz" if np.isfinite(chosen) else "none"
        file.notes.append(
            f"low-pass of most EEG channels, by the file's header: {most}; others: "
            f"{first_few(others)}"
        )
    return chosen


def _brainvision_cutoffs(file: EegFile, column: str) -> dict[str, float]:
    """Cutoffs in Hz by channel (NaN for none), of a header's last table of filters.

    The software filters come after the amplifier's and hold where both are.
    """
    lines = Path(file.root, file.path).read_bytes().decode("utf-8", "replace").splitlines()
    rows = [re.split(r"\s\s+", line.strip()) for line in lines]
    found: dict[str, float] = {}
    for place, columns in enumerate(rows):
        at = next((i for i, name in enumerate(columns) if name.startswith(column)), None)
        if at is None:
            continue
        for name, cells in zip(file.raw.ch_names, rows[place + 1 :], strict=False):
            value = number(cells[at]) if at < len(cells) else float("nan")
            is_seconds = "[s]" in columns[at] and value > 0
            found[name] = 1 / (2 * np.pi * value) if is_seconds else value
    return found
