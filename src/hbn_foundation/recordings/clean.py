"""Clean one recording: EEG channels only, band-pass, resampling, bad channels, robust scale.

The recording is read, filtered and resampled in pieces into a temporary file, so memory does not
grow with its length; short ones never leave memory. Scale and correlations come from at most
`MAX_SAMPLE` samples spread over the recording: all of them up to 164 s at 100 Hz.

The reference is left as it is: a flat reference channel (Cz in HBN) is marked flat like any other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.recordings.atomic import full_disk_named
from hbn_foundation.recordings.channel_tally import ChannelTally
from hbn_foundation.recordings.channels import Channels, eeg_channels
from hbn_foundation.recordings.cleaned import CleanedRecording
from hbn_foundation.recordings.integrity import UnreadableRecording, is_passing
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.quality import bad_channels, highest_correlation, quality_measures
from hbn_foundation.recordings.read import check_length, one_line, read_raw, read_sidecar
from hbn_foundation.recordings.resampling import Piece, Resampler, extend

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
    root, path = str(row["bids_root"]), str(row["path"])
    raw = read_raw(Path(root, path))
    info = read_sidecar(root, path)
    check_length(raw, path, info)
    sfreq, n_in = float(raw.info["sfreq"]), int(raw.n_times)
    if n_in / sfreq < params.min_seconds:
        raise UnreadableRecording(
            f"too short: {n_in / sfreq:.2f} s, at least {params.min_seconds:g} s are needed"
        )
    channels = eeg_channels(raw, root, path)
    lowpass = float(raw.info["lowpass"] or 0.0)
    h_freq = min(params.h_freq, lowpass) if lowpass > 2 * params.l_freq else params.h_freq
    resampler = Resampler(sfreq, params.sfreq, params.l_freq, h_freq, n_in, params.chunk_seconds)
    tally = ChannelTally(len(channels.picks), sfreq, params.flat_uv * 1e-6)
    # float32 in the temporary file and float16 in the result
    n_bytes = resampler.n_out * len(channels.picks) * 6
    with (
        full_disk_named(out.parent, n_bytes),
        tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(out.parent)) as file,
    ):
        for piece in _pieces(raw, channels, resampler, tally):
            file.write(np.ascontiguousarray(piece.T).data)
        if (tally.missing_share >= 1).all():
            raise UnreadableRecording("all samples are NaN")
        signal = _Signal(file, resampler.n_out, len(channels.picks), params)
        return _finish(signal, channels, tally, params, info, resampler, out)


def _pieces(
    raw: Any, channels: Channels, resampler: Resampler, tally: ChannelTally
) -> Iterator[np.ndarray]:
    """Clean (C, T) float32 pieces in volts, in order; the tally is kept on the way."""
    offset: np.ndarray | None = None
    ratio = resampler.sfreq_in / resampler.sfreq_out
    done = 0
    for piece in resampler.pieces():
        start, stop = max(piece.start, 0), min(piece.stop, resampler.n_in)
        samples = _read(raw, channels.picks, start, stop)
        if offset is None:
            # the same for all pieces, so that they join; it keeps float32 exact on DC recordings
            finite = np.where(np.isfinite(samples), samples, 0.0)
            offset = finite.mean(axis=1, keepdims=True)
        samples -= offset
        volts = samples.astype(np.float32)
        core = resampler.n_in if piece.last == resampler.n_out else round(piece.last * ratio)
        tally.update(volts[:, done - start : core - start])
        done = core
        if not np.isfinite(volts).all():
            np.nan_to_num(volts, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        yield _filtered(resampler, piece, volts, start, stop)


def _read(raw: Any, picks: list[int], start: int, stop: int) -> np.ndarray:
    try:
        samples = raw.get_data(picks=picks, start=start, stop=stop, verbose="ERROR")
    except Exception as error:
        if is_passing(error):
            raise
        seconds = start / raw.info["sfreq"]
        raise UnreadableRecording(
            f"truncated or damaged: cannot be read from {seconds:.1f} s ({one_line(error)})"
        ) from error
    if samples.shape[1] != stop - start:
        raise UnreadableRecording(
            f"truncated: {samples.shape[1]} of {stop - start} samples from sample {start}"
        )
    return samples


def _filtered(
    resampler: Resampler, piece: Piece, samples: np.ndarray, start: int, stop: int
) -> np.ndarray:
    blocks = []
    for place in range(0, len(samples), MAX_BLOCK):
        block = samples[place : place + MAX_BLOCK]
        blocks.append(resampler.apply(piece, extend(block, start - piece.start, piece.stop - stop)))
    return np.concatenate(blocks)


class _Signal:
    """The clean signal in volts, in the temporary file as (T, C) float32."""

    def __init__(
        self, file: tempfile.SpooledTemporaryFile[bytes], n: int, c: int, params: CleaningParams
    ) -> None:
        self.file, self.n_samples, self.n_channels = file, n, c
        self._block = max(int(params.chunk_seconds * params.sfreq), 1)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Start and samples (t, C) of one block after another."""
        self.file.seek(0)
        for start in range(0, self.n_samples, self._block):
            n = min(self._block, self.n_samples - start)
            data = self.file.read(n * self.n_channels * 4)
            yield start, np.frombuffer(data, np.float32).reshape(n, self.n_channels)

    def sample(self) -> np.ndarray:
        """At most MAX_SAMPLE evenly spaced samples: (C, S) float32."""
        step = -(-self.n_samples // MAX_SAMPLE)
        picked = [block[(-start) % step :: step].T for start, block in self.blocks()]
        return np.concatenate(picked, axis=1)


def _finish(
    signal: _Signal,
    channels: Channels,
    tally: ChannelTally,
    params: CleaningParams,
    info: Mapping[str, Any],
    resampler: Resampler,
    out: Path,
) -> CleanedRecording:
    """Scale the signal, write it, and say which channels are bad."""
    sample = signal.sample()
    centre = np.median(sample, axis=1)
    sample -= centre[:, None]
    scales = 1.4826 * np.median(np.abs(sample), axis=1).astype(float)
    unit = np.where(scales > 0, scales, 1e-6)
    sample /= unit.astype(np.float32)[:, None]
    np.clip(sample, -params.clip, params.clip, out=sample)
    found = bad_channels(channels.names, tally, scales, highest_correlation(sample), params)
    bad = {**found, **channels.bad}
    if len(bad) == len(channels.names):
        reasons = sorted(set(bad.values()))
        raise UnreadableRecording(
            f"no usable channel: all {len(bad)} are bad ({', '.join(reasons)})"
        )
    clipped = _write(signal, centre, unit, params.clip, out)
    line = info.get("PowerLineFrequency")
    ratio = tally.line_ratio(float(line) if isinstance(line, int | float) and line > 0 else None)
    quality = quality_measures(channels.names, list(bad), channels.unknown, scales, ratio, clipped)
    return CleanedRecording(
        names=tuple(channels.names),
        positions=channels.positions,
        scales=unit,
        n_samples=signal.n_samples,
        sfreq=params.sfreq,
        bad={name: bad[name] for name in channels.names if name in bad},
        quality={
            **quality,
            "sfreq_file": resampler.sfreq_in,
            "h_freq": resampler.h_freq,
            "note": "; ".join(channels.notes),
        },
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
