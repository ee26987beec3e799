"""Clean one recording: EEG channels only, band-pass, resampling, bad channels, robust scale.

The recording is read, filtered and resampled in chunks into a temporary file, so memory does not
grow with its length; short ones never leave memory. Each continuous stretch is filtered on its own,
and the stretches are stored one after another. Scale and correlations come from at most
`MAX_SAMPLE` samples spread over the recording: all of them up to 164 s at 100 Hz.

The reference is left as it is: a flat channel that the sidecar names as the reference (Cz in HBN)
is unusable, but not counted as a bad channel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.files import full_disk_named
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.quality import (
    AMPLITUDES_UV,
    REFERENCE,
    ChannelTally,
    bad_channels,
    highest_correlation,
    is_reference,
)
from hbn_foundation.recordings.read import UnreadableRecording, in_memory
from hbn_foundation.recordings.recording import Recording, open_recording, recording_of
from hbn_foundation.recordings.resampling import Resampler, without_missing
from hbn_foundation.recordings.timeline import Timeline

MAX_SAMPLE = 2**14
IN_MEMORY_BYTES = 2**23
"""Clean signals up to this size (float32) are not written to a temporary file."""


@dataclass(frozen=True)
class CleanedRecording:
    """Description of one clean recording; its signal lies in a ``.npy`` file of shape (T, C).

    Attributes
    ----------
    names, positions, scales
        Canonical channel names in the order of the signal's columns, (C, 3) unit vectors in head
        coordinates, and (C,) volts per stored unit.
    timeline
        Continuous stretches and bad segments of the signal, at its own rate.
    bad
        Bad channels and reasons: ``{"Cz": "flat"}``. They stay in the signal and are masked.
    quality
        Measures of the whole recording, one number or text each:

        - ``amplitude_uv``: median robust amplitude of the good channels in µV;
        - ``line_noise``: median of `ChannelTally.line_ratio` over the good channels;
        - ``clipped_share``: share of clean samples cut at the limit;
        - ``unknown_channels``: EEG channels left out for want of a position, or for the name of
          another signal;
        - ``sfreq_file``: sampling rate of the file;
        - ``l_freq``, ``h_freq``: lower and upper edge of the pass band, the file's own included;
        - ``positions_from``: what the positions come from;
        - ``seconds_left_out``: seconds that no window touches;
        - ``note``: all other findings, in sentences.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    scales: np.ndarray
    timeline: Timeline
    bad: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Length of the signal."""
        return self.timeline.n_samples

    @property
    def sfreq(self) -> float:
        """Sampling rate of the signal in Hz."""
        return self.timeline.sfreq


def clean_recording(
    row: Mapping[str, Any], params: CleaningParams, out: Path, raw: Any = None
) -> CleanedRecording:
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
    raw
        A `mne.io.BaseRaw` to clean in place of the row's file.

    Raises
    ------
    UnreadableRecording
        With the reason, whatever makes the recording unusable.
    UserError
        The disk is full.
    """
    if raw is None:
        recording = open_recording(str(row["bids_root"]), str(row["path"]), params.bipolar)
    else:
        recording = recording_of(in_memory(raw), params.bipolar)
    cleaning = _Cleaning(recording, params)
    n_samples, n_channels = cleaning.shape
    # float32 in the temporary file and float16 in the result
    with (
        full_disk_named(out.parent, n_samples * n_channels * 6),
        tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(out.parent)) as file,
    ):
        for chunk in cleaning.chunks():
            file.write(np.ascontiguousarray(chunk.T).data)
        if (cleaning.tally.missing_share >= 1).all():
            raise UnreadableRecording("all samples are NaN or beyond any voltage")
        centre, scales, bad = cleaning.find_scales(file)
        clipped = cleaning.write(file, centre, scales, out)
    channels = recording.channels
    quality = cleaning.quality(scales, bad) | {"clipped_share": clipped}
    return CleanedRecording(
        tuple(channels.names), channels.positions, scales, cleaning.timeline, bad, quality
    )


class _Cleaning:
    """The steps of cleaning a recording; the clean signal (T, C) passes through a float32 file.

    `source` and `timeline` are the stretches that are cleaned, in samples of the file and of the
    clean signal, whose `shape` is (T, C).
    """

    def __init__(self, recording: Recording, params: CleaningParams) -> None:
        self.recording, self.params = recording, params
        self.source, self._dropped = recording.longest_stretches(params.min_seconds)
        self._h_freq = params.h_freq
        if recording.lowpass > 2 * params.l_freq:
            self._h_freq = min(params.h_freq, recording.lowpass)
        rates = (recording.sfreq, params.sfreq, params.l_freq, self._h_freq)
        self._resamplers = [
            Resampler(*rates, stop - start, params.chunk_seconds)
            for start, stop, _ in self.source.stretches
        ]
        lengths = [resampler.n_out for resampler in self._resamplers]
        self.timeline = self.source.at_rate(params.sfreq, lengths)
        self.shape = (self.timeline.n_samples, len(recording.channels.picks))
        self.tally = ChannelTally(self.shape[1], recording.sfreq, params.flat_uv * 1e-6)

    def chunks(self) -> Iterator[np.ndarray]:
        """Clean (C, T) float32 chunks in volts, in order, and update the tally.

        Each stretch is filtered on its own, and what is marked bad is not counted.
        """
        offset: np.ndarray | None = None
        allowed = self.source.allowed
        for stretch, resampler in zip(self.source.stretches, self._resamplers, strict=True):
            done = 0
            for chunk in resampler.chunks():
                start, stop = max(chunk.start, 0), min(chunk.stop, resampler.n_in)
                samples = self.recording.read(stretch.start + start, stretch.start + stop)
                if offset is None:
                    # one for all chunks, so that they join; keeps float32 exact on DC recordings
                    finite = np.where(np.isfinite(samples), samples, 0.0)
                    offset = finite.mean(axis=1, keepdims=True)
                samples -= offset
                volts = samples.astype(np.float32)
                is_last = chunk.last == resampler.n_out
                end = resampler.n_in if is_last else round(chunk.last * resampler.ratio)
                for first, last in np.clip(allowed - stretch.start, done, end):
                    if last > first:
                        self.tally.update(volts[:, first - start : last - start])
                done = end
                yield resampler.apply(chunk, without_missing(volts))

    def _blocks(self, file: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Start and samples (t, C) of one block of the clean signal after another."""
        n_samples, n_channels = self.shape
        step = max(int(self.params.chunk_seconds * self.params.sfreq), 1)
        file.seek(0)
        for start in range(0, n_samples, step):
            n = min(step, n_samples - start)
            data = file.read(n * n_channels * 4)
            yield start, np.frombuffer(data, np.float32).reshape(n, n_channels)

    def find_scales(self, file: Any) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
        """Find each channel's centre and scale (C,) in volts, and the bad channels with reasons.

        Both are taken over at most `MAX_SAMPLE` evenly spaced samples that are not marked bad.
        """
        channels, clip = self.recording.channels, self.params.clip
        step = -(-self.shape[0] // MAX_SAMPLE)
        picked = [block[(-start) % step :: step].T for start, block in self._blocks(file)]
        good = self.timeline.inside(np.arange(0, self.shape[0], step), 1)
        if not good.any():
            raise UnreadableRecording("all of it is marked bad")
        sample = np.concatenate(picked, axis=1)[:, good]
        centre = np.median(sample, axis=1)
        sample -= centre[:, None]
        scales = 1.4826 * np.median(np.abs(sample), axis=1).astype(float)
        unit = np.where(scales > 0, scales, 1e-6)
        sample /= unit.astype(np.float32)[:, None]
        np.clip(sample, -clip, clip, out=sample)
        reference = self.recording.file.info.get("EEGReference")
        reasons = bad_channels(self.tally, scales, highest_correlation(sample), self.params)
        bad = {}
        for i, name in enumerate(channels.names):
            reason = reasons.get(i)
            if reason == "flat" and is_reference(name, reference):
                reason = REFERENCE
            if reason := channels.bad.get(name, reason):
                bad[name] = reason
        if len(bad) == len(channels.names):
            raise UnreadableRecording(
                f"no usable channel: all {len(bad)} are bad "
                f"({', '.join(sorted(set(bad.values())))}), their median amplitude is "
                f"{np.median(scales) * 1e6:.2g} µV"
            )
        return centre, unit, bad

    def write(self, file: Any, centre: np.ndarray, scales: np.ndarray, out: Path) -> float:
        """Write the scaled signal as float16 ``.npy``; return the share of clipped samples."""
        clipped, clip = 0, self.params.clip
        header = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
        with out.open("wb") as npy:  # a memory map would end the process where the disk is full
            np.lib.format.write_array_header_1_0(npy, header)
            for _, block in self._blocks(file):
                scaled = (block - centre.astype(np.float32)) / scales.astype(np.float32)
                clipped += int(np.count_nonzero(np.abs(scaled) > clip))
                np.clip(scaled, -clip, clip, out=scaled)
                npy.write(np.ascontiguousarray(scaled.astype("<f2")).data)
        return clipped / (self.shape[0] * self.shape[1])

    def quality(self, scales: np.ndarray, bad: Mapping[str, str]) -> dict[str, float | str]:
        """Measures of the recording, as `CleanedRecording` has them."""
        recording, params = self.recording, self.params
        good = [i for i, name in enumerate(recording.channels.names) if name not in bad]
        amplitude_uv = float(np.median(scales[good]) * 1e6)
        line = self.tally.line_ratio(recording.file.info.get("PowerLineFrequency"))[good]
        line = line[np.isfinite(line)]
        notes, (low, high) = list(recording.file.notes), AMPLITUDES_UV
        if not low <= amplitude_uv <= high:
            notes.append(
                f"median amplitude of {amplitude_uv:.3g} µV, expected {low:g} to {high:g} µV: its "
                "unit is probably wrong"
            )
        if self._h_freq < min(params.h_freq, recording.sfreq / 2):
            notes.append(f"low-passed at {self._h_freq:g} Hz, which is the file's own low-pass")
        if recording.highpass > 1.01 * params.l_freq:  # headers round
            notes.append(
                f"the band begins at {recording.highpass:g} Hz, which is the file's own high-pass"
            )
        if self._dropped:
            short = f"{self._dropped:.1f} s left out in stretches"
            notes.append(f"{short} under {params.min_seconds:g} s")
        left_out = recording.pauses + self._dropped + self.timeline.bad_seconds
        return {
            "amplitude_uv": amplitude_uv,
            "line_noise": float(np.median(line)) if len(line) else float("nan"),
            "unknown_channels": ", ".join(recording.channels.unknown),
            "sfreq_file": recording.sfreq,
            "l_freq": max(params.l_freq, recording.highpass),
            "h_freq": self._resamplers[0].h_freq,
            "positions_from": recording.channels.positions_from,
            "seconds_left_out": round(left_out, 3),
            "note": "; ".join(notes),
        }
