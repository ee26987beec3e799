"""What MNE does not give of an EDF or BDF file: each channel's rate and filters, records' times.

MNE gives all channels the highest rate of those it reads, merges their filters into one, and puts
the records of a discontinuous file (EDF+D) one after another without their times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
TIME_STAMPED = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?(\x14[^\x00]*\x14)\x00")
"""A list of annotations that begin together: onset, duration, texts."""


@dataclass(frozen=True)
class EdfHeader:
    """Header of an EDF or BDF file (Kemp et al. 1992; EDF+: Kemp and Olivan 2003).

    `n_bytes` is its length; `n_records` is -1 where unknown. Records of a `discontinuous` file
    (EDF+D, BDF+D) may lie apart in time. The lists of `names`, `units`, `prefilters` and `samples`
    in a record have an entry for each of MNE's channels; `annotations` are their places and lengths
    in a record, in bytes.
    """

    n_bytes: int
    record_bytes: int
    n_records: int
    record_seconds: float
    discontinuous: bool
    names: list[str]
    units: list[str]
    prefilters: list[str]
    samples: list[int]
    annotations: list[tuple[int, int]]


def is_edf(path: str | Path) -> bool:
    """Return whether a file is EDF or BDF by its name."""
    return str(path).lower().endswith((".edf", ".bdf"))


def read_edf_header(path: Path) -> EdfHeader:
    """Read the header of an EDF or BDF file; ValueError for an invalid number."""
    with path.open("rb") as file:
        head = file.read(256)
        n_signals = int(head[252:256])
        fields = file.read(256 * n_signals)

    def column(first: int, width: int) -> list[str]:
        at = first * n_signals
        texts = (fields[at + i * width : at + (i + 1) * width] for i in range(n_signals))
        return [text.strip().decode("latin-1") for text in texts]

    labels, units, prefilters = column(0, 16), column(96, 8), column(136, 80)
    samples = [int(text) for text in column(216, 8)]
    widths = [n * (3 if head[:1] == b"\xff" else 2) for n in samples]
    channels = [i for i, label in enumerate(labels) if label not in ANNOTATIONS]
    return EdfHeader(
        n_bytes=int(head[184:192]),
        record_bytes=sum(widths),
        n_records=int(head[236:244]),
        record_seconds=float(head[244:252]),
        discontinuous=head[192:197] in (b"EDF+D", b"BDF+D"),
        names=[labels[i] for i in channels],
        units=[units[i] for i in channels],
        prefilters=[prefilters[i] for i in channels],
        samples=[samples[i] for i in channels],
        annotations=[
            (sum(widths[:i]), width) for i, width in enumerate(widths) if i not in channels
        ],
    )


def record_times(
    path: Path, header: EdfHeader
) -> tuple[np.ndarray, list[tuple[float, float, str]]] | None:
    """Read the times (R,) of the data records and the annotations in them, in s from the first.

    Each record's first annotation is its time, by the standard of EDF+. Annotations are onset,
    duration (0 where there is none) and text. None when a record has no time, or time does not
    increase.
    """
    if not header.annotations:
        return None
    onsets, annotations = [], []
    n_records = (path.stat().st_size - header.n_bytes) // header.record_bytes
    with path.open("rb") as file:
        for record in range(n_records):
            for at, width in header.annotations:
                file.seek(header.n_bytes + record * header.record_bytes + at)
                lists = TIME_STAMPED.findall(file.read(width))
                if at == header.annotations[0][0]:
                    if not lists or not lists[0][2].startswith(b"\x14\x14"):
                        return None
                    onsets.append(float(lists[0][0]))
                annotations += [
                    (float(onset), float(duration or 0), text.decode("utf-8", "replace"))
                    for onset, duration, texts in lists
                    for text in texts.split(b"\x14")
                    if text
                ]
    times = np.array(onsets)
    if (np.diff(times) <= 0).any():
        return None
    start = onsets[0]
    return times - start, [(onset - start, length, text) for onset, length, text in annotations]


def cutoff(kind: str, prefilter: str) -> float:
    """Cutoff in Hz of a channel's filter, `HP` or `LP`, by its header; NaN where it has none."""
    pattern = rf"{kind}\s*[:=]?\s*(\d*[.,]?\d+)\s*(mHz|kHz|k|m?s(?:ec)?\b)?"
    match = re.search(pattern, prefilter, re.IGNORECASE)
    unit = (match[2] or "").lower() if match else ""
    if match is None or "s" in unit:  # a time constant
        return float("nan")
    return float(match[1].replace(",", ".")) * {"m": 1e-3, "k": 1e3}.get(unit[:1], 1.0)
