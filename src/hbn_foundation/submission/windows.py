"""The windows that the challenge scores, in volts as MNE reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd

from hbn_foundation.signals.clean_task import limits
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.signals.params import BuildParams

if TYPE_CHECKING:
    from hbn_foundation.recordings.recording import Recording
    from hbn_foundation.recordings.timeline import Timeline

SFREQ = 100
N_SAMPLES = 200
#: The order of the channels that a submission is given.
CHANNELS = (*(f"E{number}" for number in range(1, 129)), "Cz")
REFERENCE = "Cz"
BAND = (0.5, 50.0)  # Hz, of the challenge's own release
CHUNK_SECONDS = 60.0
#: Challenge 1: samples from the stimulus to the beginning of the window.
AFTER_STIMULUS = 50
#: Challenge 2: length and distance of the windows that a crop is taken from, in samples.
LONG, STRIDE = 400, 200


def read_volts(root: str, path: str) -> tuple[np.ndarray, Timeline]:
    """Read a recording at a BIDS root in the form that submissions are given.

    Returns
    -------
    volts : numpy.ndarray
        (129, n) in volts at 100 Hz, float32, channels as in `CHANNELS`. Nothing is scaled or
        cleaned; samples that are not finite are interpolated, and a reference that the file lacks
        is zero. A recording at another rate is filtered to 0.5 to 50 Hz and resampled first, as
        the challenge did, each continuous stretch alone.
    timeline : Timeline
        Its continuous stretches and bad segments.

    Raises
    ------
    UnreadableRecording
        When it cannot be used, or lacks electrodes of the net.
    """
    from hbn_foundation.recordings.read import UnreadableRecording
    from hbn_foundation.recordings.recording import open_recording

    recording = open_recording(root, path)
    channels = recording.channels
    columns = dict(zip(channels.names, channels.picks, strict=True))
    missing = [name for name in CHANNELS if name not in columns and name != REFERENCE]
    if missing:
        there = len(CHANNELS) - len(missing)
        raise UnreadableRecording(f"has {there} of the {len(CHANNELS)} channels of the net")
    data, timeline = _at_rate(recording, [columns[name] for name in CHANNELS if name in columns])
    volts = np.zeros((len(CHANNELS), data.shape[1]), dtype=np.float32)
    volts[[place for place, name in enumerate(CHANNELS) if name in columns]] = data
    return volts, timeline


def read_all(
    rows: Iterable[Mapping[Any, Any]], max_seconds: float = BuildParams().max_seconds
) -> Iterator[tuple[Any, tuple[np.ndarray, Timeline] | str]]:
    """Yield rows of `find_recordings` with what `read_volts` gives, or why it gives nothing.

    Each is read in a worker, within the limits that cleaning has by default.
    """
    build = BuildParams(max_seconds=max_seconds)
    for row, read in run_parallel(_volts_or_reason, rows, 1, limits(build, lambda row: row)):
        yield row, str(read) if isinstance(read, WorkerKilled) else read


def _volts_or_reason(row: Mapping[Any, Any]) -> tuple[np.ndarray, Timeline] | str:
    from hbn_foundation.errors import one_line
    from hbn_foundation.recordings.read import UnreadableRecording

    try:
        return read_volts(row["bids_root"], row["path"])
    except UnreadableRecording as reason:
        return str(reason)
    except MemoryError:
        return "needs more memory than there is"
    except (OSError, ValueError, RuntimeError) as error:  # raised by readers of damaged files
        return one_line(error)


def _at_rate(recording: Recording, picks: list[int]) -> tuple[np.ndarray, Timeline]:
    """Return samples (C, n) of some channels in volts, at the challenge's rate."""
    from hbn_foundation.recordings.resampling import Resampler, without_missing

    source, _ = recording.longest_stretches(N_SAMPLES / SFREQ)
    parts, lengths = [], []
    for start, stop, _ in source.stretches:
        if round(recording.sfreq, 6) == SFREQ:
            parts.append(without_missing(recording.read(start, stop, picks)))
            lengths.append(stop - start)
            continue
        resampler = Resampler(recording.sfreq, SFREQ, *BAND, stop - start, CHUNK_SECONDS)
        for chunk in resampler.chunks():
            first, last = max(chunk.start, 0), min(chunk.stop, resampler.n_in)
            samples = without_missing(recording.read(start + first, start + last, picks))
            parts.append(resampler.apply(chunk, samples))
        lengths.append(resampler.n_out)
    return np.concatenate(parts, axis=1), source.at_rate(SFREQ, lengths)


def trial_starts(trials: pd.DataFrame, timeline: Timeline) -> pd.DataFrame:
    """Add `start`, in samples, to the trials of a recording; without a whole window they go.

    A window begins half a second after its stimulus, both counted in whole samples; it touches
    neither a gap nor a bad segment.
    """
    times = trials[["stimulus", "response"]].to_numpy(dtype=float)
    start, reason = timeline.trial_windows(times, AFTER_STIMULUS, N_SAMPLES)
    return trials.assign(start=start)[reason == ""].reset_index(drop=True)


def crop_starts(recording: str, timeline: Timeline, seed: int) -> np.ndarray:
    """Draw the starts (n,), in samples, of one crop in each window of 4 s, one every 2 s.

    The name of the recording and the seed decide where each crop lies, whatever else is scored.
    """
    windows = timeline.starts(LONG, STRIDE)
    random = np.random.default_rng([seed, crc32(recording.encode())])
    return windows + random.integers(0, LONG - N_SAMPLES + 1, len(windows))


def cut(volts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Windows (n, 129, 200) of a recording."""
    return np.stack([volts[:, start : start + N_SAMPLES] for start in starts])


def example_windows(n: int, seed: int = 0) -> np.ndarray:
    """Make artificial windows (n, 129, 200) in volts.

    Noise of 1/f² with 15 µV, Cz flat as the reference is. The first has a flat channel and one of
    large amplitude; the second is flat throughout, as in a paused recording.
    """
    random = np.random.default_rng(seed)
    noise = random.standard_normal((n, len(CHANNELS), N_SAMPLES)).cumsum(-1)
    noise -= noise.mean(-1, keepdims=True)
    volts = 15e-6 * noise / noise.std(-1, keepdims=True)
    volts[:, -1] = 0.0
    volts[0, 3] = 0.0
    volts[0, 7] *= 100.0
    volts[1] = 0.0
    return volts.astype(np.float32)


def windows_for_checks(recordings: pd.DataFrame, n: int, seed: int) -> np.ndarray:
    """Windows (n, 129, 200) in volts: artificial ones, and of the first recording that is read."""
    for _, read in read_all(recordings.to_dict("records")):
        if not isinstance(read, str):
            volts, timeline = read
            starts = timeline.starts(N_SAMPLES, 1)
            if len(starts):
                chosen = starts[np.linspace(0, len(starts) - 1, n // 2).astype(np.int64)]
                return np.concatenate([example_windows(n - n // 2, seed), cut(volts, chosen)])
    return example_windows(n, seed)
