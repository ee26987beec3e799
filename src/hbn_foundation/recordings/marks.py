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
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import first_few
from hbn_foundation.recordings.edf import record_times
from hbn_foundation.recordings.read import EegFile
from hbn_foundation.recordings.timeline import Stretch, Timeline, merged
from hbn_foundation.sidecars import UnreadableSidecar, number, read_table

EVENT_COLUMNS = ("trial_type", "value")
"""Columns of events.tsv that are searched for marks."""

CUT = re.compile(r"(bad|edge)?[ _]*boundary\b|new segment")
SKIP = "bad_acq_skip"
LEAST_GAP = 0.01
"""Seconds; clock errors of recorders are smaller from one data record to the next."""


class Mark(NamedTuple):
    """An annotation: onset and duration in seconds, and its text."""

    onset: float
    duration: float
    text: str

    @property
    def kind(self) -> str:
        """Meaning of the text: skip, cut, bad, or "" for any other."""
        text = self.text.strip().lower()
        text = text.removeprefix("comment/")  # MNE's annotations in BrainVision files
        if text.startswith(SKIP):
            return "skip"
        if CUT.match(text):
            return "cut"
        return "bad" if text.startswith("bad") else ""

    def spans(self, timeline: Timeline) -> Iterable[tuple[float, float]]:
        """Yield the part of each stretch that it covers, in samples (float)."""
        end = self.onset + (self.duration if self.duration > 0 else 0.0)
        for start, stop, onset in timeline.stretches:
            a = start + max((self.onset - onset) * timeline.sfreq, 0.0)
            b = min(start + (end - onset) * timeline.sfreq, stop)
            if a < stop and b >= start and a <= b:
                yield a, b


def find_gaps(file: EegFile) -> Timeline:
    """Find the continuous stretches and the bad segments of a recording, in samples of the file.

    The file's notes name what was found.
    """
    raw, sfreq = file.raw, float(file.raw.info["sfreq"])
    timeline = Timeline.unbroken(int(raw.n_times), sfreq)
    numbered = ("-99", "-99.0") if file.ending == ".set" else ()
    marks = []
    for note in raw.annotations:
        text = "boundary" if note["description"] in numbered else note["description"]
        marks.append(Mark(note["onset"] - raw.first_time, note["duration"], text))
    if file.header is not None and file.header.discontinuous:
        times = record_times(Path(file.root, file.path), file.header)
        if times is None:
            file.notes.append(
                "the file is marked discontinuous, but its records have no times that increase: "
                "read as continuous"
            )
        else:
            timeline = _joined_records(times[0], file.header.record_seconds, timeline)
            marks = [Mark(*annotation) for annotation in times[1]]
    marks += _of_events(file)
    return _apply([mark for mark in marks if math.isfinite(mark.onset)], timeline, file.notes)


def _joined_records(onsets: np.ndarray, seconds: float, whole: Timeline) -> Timeline:
    """Join the data records that follow each other without a gap."""
    per_record, n_samples = round(seconds * whole.sfreq), whole.n_samples
    tolerance = max(LEAST_GAP, 1 / whole.sfreq)
    firsts = [0]
    for record in range(1, len(onsets)):
        expected = onsets[firsts[-1]] + (record - firsts[-1]) * seconds
        if abs(onsets[record] - expected) > tolerance:
            firsts.append(record)
    edges = [first * per_record for first in firsts] + [n_samples]
    stretches = [
        Stretch(start, min(stop, n_samples), float(onsets[first]))
        for first, (start, stop) in zip(firsts, pairwise(edges), strict=True)
        if start < n_samples
    ]
    return Timeline(whole.sfreq, tuple(stretches))


def _of_events(file: EegFile) -> list[Mark]:
    """Read the marks in the recording's events.tsv."""
    path = sidecar(file.root, file.path, "events.tsv")
    if path is None:
        return []
    try:
        rows = read_table(path, ("onset", "duration", *EVENT_COLUMNS)).rows
    except UnreadableSidecar as error:
        file.notes.append(f"gaps and bad segments of events.tsv are not known: {error}")
        return []
    marks = [
        Mark(number(row.get("onset")), number(row.get("duration")), row.get(column, ""))
        for row in rows
        for column in EVENT_COLUMNS
    ]
    return [mark for mark in marks if mark.kind]


def _apply(marks: list[Mark], timeline: Timeline, notes: list[str]) -> Timeline:
    """Remove skips from the stretches, cut them, and mark the bad segments."""
    of_kind = {kind: [m for m in marks if m.kind == kind] for kind in ("skip", "cut", "bad")}
    spans = [span for mark in of_kind["skip"] for span in mark.spans(timeline)]
    whole = timeline.without(merged((round(a), round(b)) for a, b in spans))
    timeline = _cut(whole, [mark.onset for mark in of_kind["cut"]])
    spans = [span for mark in of_kind["bad"] for span in mark.spans(timeline)]
    firsts = [math.floor(a + 1e-6) for a, _ in spans]
    lasts = [math.ceil(b - 1e-6) for _, b in spans]
    timeline = timeline.with_bad((a, max(b, a + 1)) for a, b in zip(firsts, lasts, strict=True))
    if n_cuts := len(timeline.stretches) - len(whole.stretches):
        notes.append(f"cut at {n_cuts} boundar{'y' if n_cuts == 1 else 'ies'}")
    if of_kind["bad"]:
        texts = first_few(sorted({mark.text.strip() for mark in of_kind["bad"]}), 3)
        notes.append(f"{timeline.bad_seconds:.1f} s marked bad ({texts})")
    if pauses := timeline.pauses:
        notes.append(f"{pauses:.1f} s not recorded (pauses)")
    return timeline


def _cut(timeline: Timeline, times: list[float]) -> Timeline:
    """Cut stretches before the first sample at or after each time.

    The same boundary may be in the file and, rounded, in events.tsv: of cuts one sample apart only
    one counts.
    """
    parts, sfreq = [], timeline.sfreq
    for start, stop, onset in timeline.stretches:
        edges = [start]
        for sample in sorted({start + math.ceil((t - onset) * sfreq - 1e-6) for t in times}):
            if edges[-1] + 1 < sample < stop - 1:
                edges.append(sample)
        parts += [Stretch(a, b, onset + (a - start) / sfreq) for a, b in pairwise([*edges, stop])]
    return Timeline(sfreq, tuple(parts))
