"""Clean one recording: EEG channels only, band-pass, resampling, bad channels, robust scale.

The recording is read, filtered and resampled in pieces into a temporary file, so memory does not
grow with its length; short ones never leave memory. Each continuous stretch is filtered on its own,
and the stretches are stored one after another. Scale and correlations come from at most
`MAX_SAMPLE` samples spread over the recording: all of them up to 164 s at 100 Hz.

The reference is left as it is: a flat channel that the sidecar names as the reference (Cz in HBN)
is unusable, but not counted as a bad channel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.files import full_disk_named
from hbn_foundation.recordings.channel_tally import ChannelTally
from hbn_foundation.recordings.cleaned import CleanedRecording
from hbn_foundation.recordings.integrity import UnreadableRecording
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.quality import (
    amplitude_notes,
    bad_channels,
    highest_correlation,
    name_reference,
    quality_measures,
)
from hbn_foundation.recordings.recording import Recording, open_recording
from hbn_foundation.recordings.resampling import Piece, Resampler, extend, without_missing
from hbn_foundation.recordings.timeline import Timeline

MAX_SAMPLE = 2**14
IN_MEMORY_BYTES = 2**23
"""Clean signals up to this size (float32) are not written to a temporary file."""

MAX_BLOCK = 16
"""Channels transformed at a time."""


def clean_recording(row: Mapping[str, Any], params: CleaningParams, out: Path) -> CleanedRecording:
    """Clean a recording and write its signal.

    Parameters
    ----------
    row
        A row of `find_recordings`: ``bids_root`` and ``path`` are used.
    params
        How to clean.
    out
        Where to write the signal: time-major float16 (T, C) ``.npy`` in robust deviations.
        Temporary files lie in the same folder.

    Returns
    -------
    CleanedRecording

    Raises
    ------
    UnreadableRecording
        With the reason, whatever makes the recording unusable.
    UserError
        The disk is full.
    """
    recording = open_recording(str(row["bids_root"]), str(row["path"]), params.bipolar)
    source, dropped = recording.longest_stretches(params.min_seconds)
    h_freq = params.h_freq
    if recording.lowpass > 2 * params.l_freq:
        h_freq = min(h_freq, recording.lowpass)
    resamplers = [
        Resampler(
            *(recording.sfreq, params.sfreq, params.l_freq, h_freq),
            *(stop - start, params.chunk_seconds),
        )
        for start, stop, _ in source.stretches
    ]
    timeline = source.at_rate(params.sfreq, [resampler.n_out for resampler in resamplers])
    n_channels, n_out = len(recording.channels.picks), timeline.stretches[-1].stop
    tally = ChannelTally(n_channels, recording.sfreq, params.flat_uv * 1e-6)
    # float32 in the temporary file and float16 in the result
    with (
        full_disk_named(out.parent, n_out * n_channels * 6),
        tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(out.parent)) as file,
    ):
        for piece in _pieces(recording, source, resamplers, tally):
            file.write(np.ascontiguousarray(piece.T).data)
        if (tally.missing_share >= 1).all():
            raise UnreadableRecording("all samples are NaN or beyond any voltage")
        signal = _Signal(file, timeline, n_channels, params)
        cleaned = _finish(signal, recording, tally, params, out)
    quality = {
        "sfreq_file": recording.sfreq,
        "h_freq": resamplers[0].h_freq,
        "positions_from": recording.channels.positions_from,
        **_left_out(cleaned, recording, params, h_freq, dropped),
    }
    return replace(cleaned, quality={**cleaned.quality, **quality})


def _left_out(
    cleaned: CleanedRecording,
    recording: Recording,
    params: CleaningParams,
    h_freq: float,
    dropped: float,
) -> dict[str, float | str]:
    """Count the seconds that no window touches, and note all that the user should know.

    `dropped` are the seconds of the stretches that are too short.
    """
    notes = [*recording.notes, *amplitude_notes(float(cleaned.quality["amplitude_uv"]))]
    if h_freq < params.h_freq and h_freq < recording.sfreq / 2:
        notes.append(f"low-passed at {h_freq:g} Hz, which is the file's own low-pass")
    if dropped:
        notes.append(f"{dropped:.1f} s left out in stretches under {params.min_seconds:g} s")
    bad = sum(stop - start for start, stop in cleaned.timeline.bad) / params.sfreq
    seconds = round(recording.gaps.pauses + dropped + bad, 3)
    return {"seconds_left_out": seconds, "note": "; ".join(notes)}


def _pieces(
    recording: Recording, source: Timeline, resamplers: list[Resampler], tally: ChannelTally
) -> Iterator[np.ndarray]:
    """Clean (C, T) float32 pieces in volts, in order; the tally is kept on the way.

    Each stretch is filtered on its own, and what is marked bad is not counted.
    """
    offset: np.ndarray | None = None
    allowed = source.allowed
    for stretch, resampler in zip(source.stretches, resamplers, strict=True):
        ratio = resampler.sfreq_in / resampler.sfreq_out
        done = 0
        for piece in resampler.pieces():
            start, stop = max(piece.start, 0), min(piece.stop, resampler.n_in)
            samples = recording.read(stretch.start + start, stretch.start + stop)
            if offset is None:
                # the same for all pieces, so that they join; it keeps float32 exact on DC
                # recordings
                finite = np.where(np.isfinite(samples), samples, 0.0)
                offset = finite.mean(axis=1, keepdims=True)
            samples -= offset
            volts = samples.astype(np.float32)
            core = resampler.n_in if piece.last == resampler.n_out else round(piece.last * ratio)
            for first, last in np.clip(allowed - stretch.start, done, core):
                if last > first:
                    tally.update(volts[:, first - start : last - start])
            done = core
            yield filtered(resampler, piece, without_missing(volts))


def filtered(resampler: Resampler, piece: Piece, samples: np.ndarray) -> np.ndarray:
    """Filter and resample a piece (C, T) of a stretch, a few channels at a time.

    `samples` are those of the piece that lie within the stretch; beyond its ends the signal is
    extended.
    """
    before = max(-piece.start, 0)
    after = piece.stop - piece.start - before - samples.shape[1]
    blocks = [samples[at : at + MAX_BLOCK] for at in range(0, len(samples), MAX_BLOCK)]
    return np.concatenate(
        [resampler.apply(piece, extend(block, before, after)) for block in blocks]
    )


class _Signal:
    """The clean signal in volts, in the temporary file as (T, C) float32."""

    def __init__(
        self,
        file: tempfile.SpooledTemporaryFile[bytes],
        timeline: Timeline,
        n_channels: int,
        params: CleaningParams,
    ) -> None:
        self.file, self.timeline, self.n_channels = file, timeline, n_channels
        self.n_samples = timeline.stretches[-1].stop
        self._block = max(int(params.chunk_seconds * params.sfreq), 1)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Start and samples (t, C) of one block after another."""
        self.file.seek(0)
        for start in range(0, self.n_samples, self._block):
            n = min(self._block, self.n_samples - start)
            data = self.file.read(n * self.n_channels * 4)
            yield start, np.frombuffer(data, np.float32).reshape(n, self.n_channels)

    def sample(self) -> np.ndarray:
        """At most MAX_SAMPLE evenly spaced samples that are not marked bad: (C, S) float32."""
        step = -(-self.n_samples // MAX_SAMPLE)
        picked = [block[(-start) % step :: step].T for start, block in self.blocks()]
        sample = np.concatenate(picked, axis=1)
        good = self.timeline.inside(np.arange(0, self.n_samples, step), 1)
        if not good.any():
            raise UnreadableRecording("all of it is marked bad")
        return sample if good.all() else sample[:, good]


def _finish(
    signal: _Signal, recording: Recording, tally: ChannelTally, params: CleaningParams, out: Path
) -> CleanedRecording:
    """Scale the signal, write it, and say which channels are bad."""
    channels = recording.channels
    sample = signal.sample()
    centre = np.median(sample, axis=1)
    sample -= centre[:, None]
    scales = 1.4826 * np.median(np.abs(sample), axis=1).astype(float)
    unit = np.where(scales > 0, scales, 1e-6)
    sample /= unit.astype(np.float32)[:, None]
    np.clip(sample, -params.clip, params.clip, out=sample)
    found = bad_channels(channels.names, tally, scales, highest_correlation(sample), params)
    bad = {**name_reference(found, recording.info.get("EEGReference")), **channels.bad}
    if len(bad) == len(channels.names):
        reasons = sorted(set(bad.values()))
        raise UnreadableRecording(
            f"no usable channel: all {len(bad)} are bad ({', '.join(reasons)}), their "
            f"median amplitude is {np.median(scales) * 1e6:.2g} µV"
        )
    clipped = _write(signal, centre, unit, params.clip, out)
    line = recording.info.get("PowerLineFrequency")
    ratio = tally.line_ratio(float(line) if isinstance(line, int | float) and line > 0 else None)
    return CleanedRecording(
        names=tuple(channels.names),
        positions=channels.positions,
        scales=unit,
        timeline=signal.timeline,
        bad={name: bad[name] for name in channels.names if name in bad},
        quality=quality_measures(
            channels.names, list(bad), channels.unknown, scales, ratio, clipped
        ),
    )


def _write(signal: _Signal, centre: np.ndarray, unit: np.ndarray, clip: float, out: Path) -> float:
    """Write the scaled signal as float16 ``.npy``; return the share of clipped samples."""
    clipped = 0
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
        "fortran_order": False,
        "shape": (signal.n_samples, signal.n_channels),
    }
    with out.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, block in signal.blocks():
            scaled = (block - centre.astype(np.float32)) / unit.astype(np.float32)
            clipped += int(np.count_nonzero(np.abs(scaled) > clip))
            stored = np.clip(scaled, -clip, clip, out=scaled).astype(np.float16)
            file.write(np.ascontiguousarray(stored).data)
    return clipped / (signal.n_samples * signal.n_channels)
