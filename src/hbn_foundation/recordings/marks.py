"""Find gaps and bad segments of a recording, as its file and its events.tsv mark them.

Times are those of events.tsv: seconds from the first sample. What counts:

- a discontinuous EDF or BDF file (EDF+D, BDF+D) has the time of each data record: a gap lies where
  a record begins later than the one before it ends, and times are real times;
- ``BAD_ACQ_SKIP`` (FIF, EGI): samples that were not recorded, which MNE fills with zeros; they are
  part of the times and no part of the signal;
- ``boundary`` (EEGLAB), ``BAD boundary`` (MNE) and ``New Segment`` (BrainVision): samples before
  and after were joined. The time between them is not part of the times: these formats, and the
  events.tsv made of them, count the samples that are there. An EEGLAB boundary's duration is that
  of what was removed, so the signal is cut there and no time is shifted; among events that are
  numbers it is -99;
- anything else that begins with ``bad``: a segment that windows must not touch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import first_few
from hbn_foundation.recordings.edf import EdfHeader, record_times
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline, merged, without
from hbn_foundation.sidecars import UnreadableSidecar, number, read_table

EVENT_COLUMNS = ("trial_type", "value")
"""Columns of events.tsv in which marks are looked for."""

CUT = re.compile(r"(bad|edge)?[ _]*boundary\b|new segment")
SKIP = "bad_acq_skip"
LEAST_GAP = 0.01
"""Seconds; the clocks of recorders stray by less from one data record to the next."""


class Mark(NamedTuple):
    """An annotation: onset and duration in seconds, and its text."""

    onset: float
    duration: float
    text: str


@dataclass
class Gaps:
    """Timeline of a recording's file, and the seconds that are missing from it.

    Attributes
    ----------
    timeline
        In samples of the file.
    pauses
        Seconds between the first and the last sample that were not recorded.
    notes
        What was found, a sentence each, for the quality table.
    """

    timeline: Timeline
    pauses: float = 0.0
    notes: list[str] = field(default_factory=list)

    def without(self, still: list[tuple[int, int]]) -> Gaps:
        """Take out samples (start, stop) of pauses that nothing marks."""
        sfreq = self.timeline.sfreq
        parts = [p for s in self.timeline.stretches for p in without(s, still, sfreq)]
        seconds = (_length(self.timeline.stretches) - _length(parts)) / sfreq
        if not seconds:
            return self
        bad = _within(list(self.timeline.bad), parts)
        note = f"{seconds:.1f} s in which no channel moves (pauses that nothing marks)"
        timeline = Timeline(sfreq, tuple(parts), bad)
        return Gaps(timeline, self.pauses + seconds, [*self.notes, note])


def _length(stretches: Iterable[Stretch]) -> int:
    return sum(stop - start for start, stop, _ in stretches)


def find_gaps(raw: Any, root: str | Path, path: str, header: EdfHeader | None) -> Gaps:
    """Find the continuous stretches and the bad segments of a recording.

    Parameters
    ----------
    raw
        The open recording.
    root, path
        BIDS root and the recording's file in it.
    header
        Of an EDF or BDF file; None for other formats.
    """
    sfreq = float(raw.info["sfreq"])
    stretches = [Stretch(0, int(raw.n_times), 0.0)]
    notes: list[str] = []
    marks = [
        Mark(onset - raw.first_time, duration, _boundary(text, path))
        for onset, duration, text in zip(
            raw.annotations.onset,
            raw.annotations.duration,
            raw.annotations.description,
            strict=True,
        )
    ]
    if header is not None and header.discontinuous:
        times = record_times(Path(root, path), header)
        if times is None:
            notes.append(
                "the file is marked discontinuous, but its records have no times that increase: "
                "read as continuous"
            )
        else:
            stretches = _stretches(times[0], header.record_seconds, sfreq, int(raw.n_times))
            marks = [Mark(*annotation) for annotation in times[1]]
    marks += _of_events(root, path, notes)
    gaps = _apply([mark for mark in marks if math.isfinite(mark.onset)], stretches, sfreq)
    gaps.notes[:0] = notes
    return gaps


def _boundary(text: str, path: str) -> str:
    numbered = path.lower().endswith(".set") and text in ("-99", "-99.0")
    return "boundary" if numbered else text


def _stretches(onsets: np.ndarray, seconds: float, sfreq: float, n_samples: int) -> list[Stretch]:
    """Join the data records that follow each other without a gap."""
    per_record = round(seconds * sfreq)
    tolerance = max(LEAST_GAP, 1 / sfreq)
    firsts = [0]
    for record in range(1, len(onsets)):
        expected = onsets[firsts[-1]] + (record - firsts[-1]) * seconds
        if abs(onsets[record] - expected) > tolerance:
            firsts.append(record)
    edges = [first * per_record for first in firsts] + [n_samples]
    return [
        Stretch(start, min(stop, n_samples), float(onsets[first]))
        for first, start, stop in zip(firsts, edges, edges[1:], strict=False)
        if start < n_samples
    ]


def _of_events(root: str | Path, path: str, notes: list[str]) -> list[Mark]:
    """Read the marks in the recording's events.tsv."""
    file = sidecar(root, path, "events.tsv")
    if file is None:
        return []
    try:
        rows = read_table(file, ("onset", "duration", *EVENT_COLUMNS)).rows
    except UnreadableSidecar as error:
        notes.append(f"gaps and bad segments of events.tsv are not known: {error}")
        return []
    return [
        Mark(number(row.get("onset")), number(row.get("duration")), row[column])
        for row in rows
        for column in EVENT_COLUMNS
        if _kind(row.get(column, ""))
    ]


def _kind(text: str) -> str:
    """Tell what an annotation's text says: skip, cut, bad, or nothing of the kind ("")."""
    text = text.strip().lower().removeprefix("comment/")  # MNE's annotations in BrainVision files
    if text.startswith(SKIP):
        return "skip"
    if CUT.match(text):
        return "cut"
    return "bad" if text.startswith("bad") else ""


def _apply(marks: list[Mark], stretches: list[Stretch], sfreq: float) -> Gaps:
    """Take skips out of the stretches, cut them, and note the bad segments."""
    kinds = [_kind(mark.text) for mark in marks]
    skips = merged(
        [
            (round(a), round(b))
            for mark, kind in zip(marks, kinds, strict=True)
            if kind == "skip"
            for a, b in _spans(mark, stretches, sfreq)
        ]
    )
    stretches = [part for stretch in stretches for part in without(stretch, skips, sfreq)]
    cuts = [mark.onset for mark, kind in zip(marks, kinds, strict=True) if kind == "cut"]
    whole = len(stretches)
    stretches = _cut(stretches, cuts, sfreq)
    bad = [mark for mark, kind in zip(marks, kinds, strict=True) if kind == "bad"]
    segments = [
        (math.floor(a + 1e-6), max(math.ceil(b - 1e-6), math.floor(a + 1e-6) + 1))
        for mark in bad
        for a, b in _spans(mark, stretches, sfreq)
    ]
    gaps = Gaps(Timeline(sfreq, tuple(stretches), _within(segments, stretches)))
    ends = [stretch.onset + (stretch.stop - stretch.start) / sfreq for stretch in stretches]
    pauses = [s.onset - end for s, end in zip(stretches[1:], ends, strict=False)]
    pauses = [pause for pause in [stretches[0].onset if stretches else 0.0, *pauses] if pause > 0]
    if len(stretches) > whole:
        n_cuts = len(stretches) - whole
        gaps.notes.append(f"cut at {n_cuts} boundar{'y' if n_cuts == 1 else 'ies'}")
    if bad:
        texts = sorted({mark.text.strip() for mark in bad})
        seconds = sum(stop - start for start, stop in gaps.timeline.bad) / sfreq
        gaps.notes.append(f"{seconds:.1f} s marked bad ({first_few(texts, 3)})")
    gaps.pauses = sum(pause for pause in pauses if pause > 0.5 / sfreq)
    if gaps.pauses:
        gaps.notes.append(f"{gaps.pauses:.1f} s not recorded (pauses)")
    return gaps


def _spans(mark: Mark, stretches: list[Stretch], sfreq: float) -> Iterable[tuple[float, float]]:
    """Yield what a mark covers of each stretch, in fractions of samples; an instant covers none."""
    end = mark.onset + (mark.duration if mark.duration > 0 else 0.0)
    for start, stop, onset in stretches:
        a = start + max((mark.onset - onset) * sfreq, 0.0)
        b = min(start + (end - onset) * sfreq, stop)
        if a < stop and b >= start and a <= b:
            yield a, b


def _cut(stretches: list[Stretch], times: list[float], sfreq: float) -> list[Stretch]:
    """Cut stretches before the first sample at or after each time.

    The same boundary may be in the file and, rounded, in events.tsv: cuts a sample apart are one.
    """
    parts = []
    for start, stop, onset in stretches:
        found = {start + math.ceil((time - onset) * sfreq - 1e-6) for time in times}
        edges = [start]
        for sample in sorted(found):
            if edges[-1] + 1 < sample < stop - 1:
                edges.append(sample)
        parts += [
            Stretch(a, b, onset + (a - start) / sfreq)
            for a, b in zip(edges, [*edges[1:], stop], strict=True)
        ]
    return parts


def _within(segments: list[tuple[int, int]], stretches: list[Stretch]) -> tuple[Segment, ...]:
    """Join segments, and part them where stretches end."""
    return tuple(
        Segment(max(a, start), min(b, stop))
        for start, stop, _ in stretches
        for a, b in merged(segments)
        if a < stop and b > start
    )
