"""Features or predictions of windows while a recording goes on, from the past alone.

Filters are causal (Butterworth high-pass, Chebyshev low-pass) with a state per channel; scale and
usable channels of a window come from the last minute before its end. So signals differ from those
of the ingestion, whose filter is of zero phase and whose scale is that of the whole recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

import numpy as np

from hbn_foundation.embedding.embedder import LoadedModel
from hbn_foundation.embedding.recordings import recordings_given
from hbn_foundation.errors import UserError
from hbn_foundation.progress import working
from hbn_foundation.recordings.read import UnreadableRecording
from hbn_foundation.recordings.recording import open_recording

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.recordings.params import CleaningParams
    from hbn_foundation.recordings.recording import Recording
    from hbn_foundation.training.checkpoint import Checkpoint

PAST_SECONDS = 60.0
#: Every so-many-th sample of the past counts for the scale.
STEP = 4
STOP_DB = 40.0
SMALLEST_SPREAD = 0.1  # of log amplitudes over channels


class Answer(NamedTuple):
    """What is known of a window."""

    start: float  # s from the first sample
    values: np.ndarray  # in the order of `Streamer.columns`
    latency: float  # s from the arrival of its last sample


class CausalFilter:
    """Band-pass and resampling of chunks (C, n) as they come; how they are cut changes nothing."""

    def __init__(self, sfreq: float, n_channels: int, params: CleaningParams) -> None:
        from scipy import signal

        nyquist = min(sfreq, params.sfreq) / 2
        high = signal.butter(2, params.l_freq, "high", output="sos", fs=sfreq)
        low = signal.butter(4, min(params.h_freq, 0.9 * nyquist), "low", output="sos", fs=sfreq)
        if sfreq > 2 * nyquist:
            low = signal.cheby2(8, STOP_DB, nyquist, "low", output="sos", fs=sfreq)
        self._sos = np.concatenate([high, low])
        self._rest = signal.sosfilt_zi(self._sos)[:, None]  # (sections, 1, 2)
        self._state: np.ndarray | None = None
        self._last = np.zeros((n_channels, 0))
        self._ratio, self._seen, self._given = sfreq / params.sfreq, 0, 0

    def __call__(self, volts: np.ndarray) -> np.ndarray:
        """Filter the next chunk (C, n); return what it completes (C, m) at the new rate."""
        from scipy import signal

        volts = np.nan_to_num(np.asarray(volts, dtype=float))
        if not volts.shape[1]:
            return volts
        if self._state is None:  # as if the first value had always been there
            self._state = self._rest * volts[None, :, :1]
        found, self._state = signal.sosfilt(self._sos, volts, axis=1, zi=self._state)
        first = self._seen - self._last.shape[1]
        joined = np.concatenate([self._last, found], 1)
        self._seen += volts.shape[1]
        self._last = joined[:, -1:]
        stop = int(np.floor((self._seen - 1) / self._ratio + 1e-9)) + 1
        at = np.arange(self._given, stop) * self._ratio - first
        self._given = stop
        before = np.clip(np.floor(at + 1e-9).astype(int), 0, joined.shape[1] - 1)
        after = np.minimum(before + 1, joined.shape[1] - 1)
        return joined[:, before] + (at - before) * (joined[:, after] - joined[:, before])


class Streamer:
    """Answers for windows of a stream of volts.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint gives features, a fine-tuned one predictions.
    positions
        Unit vectors by channel, in the order of the stream.
    sfreq
        Of the stream in Hz.
    stride
        Seconds from one window to the next; None: their length.
    recentre
        Subtract the mean of the features of all windows so far, the own one included; of an encoder
        with slow outputs that of its band tangents, before the outputs are computed.

    Raises
    ------
    UserError
        When the model takes volts of channels that the stream lacks, or needs windows around.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        positions: Mapping[str, Sequence[float] | np.ndarray],
        sfreq: float,
        stride: float | None = None,
        recentre: bool = False,
    ) -> None:
        import torch

        self.model = LoadedModel(checkpoint)
        way, names = self.model.way, list(positions)
        if self.model.context.is_used:
            raise UserError("checkpoint: the model has a context; a stream gives windows alone")
        if way.of_volts:
            if missing := [name for name in way.positions if name not in positions]:
                raise UserError(f"stream: no channel {missing[0]}, which the model takes volts of")
            names = list(way.positions)
        self._rows = [list(positions).index(name) for name in names]
        self._positions = torch.tensor(np.array([positions[name] for name in names]),
                                       dtype=torch.float32)  # fmt: skip
        self._filter = CausalFilter(sfreq, len(names), way.cleaning)
        self._length, rate = way.n_samples, way.cleaning.sfreq
        self._stride = self._length if stride is None else max(round(stride * rate), 1)
        self._kept = max(round(PAST_SECONDS * rate), self._length)
        self._past, self._first, self._next = np.zeros((len(names), 0)), 0, 0
        relative = RunningMean() if recentre else None
        self.columns, self._answer = _answers(checkpoint, self.model, relative)

    def push(self, volts: np.ndarray, arrived: float | None = None) -> Iterator[Answer]:
        """Take the next samples (C, n), which `arrived` at a time of `time.perf_counter`."""
        arrived = time.perf_counter() if arrived is None else arrived
        self._past = np.concatenate([self._past, self._filter(volts[self._rows])], 1)
        while (end := self._next + self._length) <= self._first + self._past.shape[1]:
            until = end - self._first
            known = self._past[:, max(until - self._kept, 0) : until]
            values = self._of_window(known)
            start = self._next / self.model.way.cleaning.sfreq
            yield Answer(start, values, time.perf_counter() - arrived)
            self._next += self._stride
        drop = max(self._next + self._length - self._kept - self._first, 0)
        drop = min(drop, self._past.shape[1])
        self._past, self._first = self._past[:, drop:], self._first + drop

    def _of_window(self, known: np.ndarray) -> np.ndarray:
        import torch

        params, window = self.model.way.cleaning, known[:, -self._length :]
        mask = np.ones(len(known), bool)
        if self.model.prepare is None:
            sample = known[:, ::-STEP]
            centre = np.median(sample, 1, keepdims=True)
            scale = 1.4826 * np.median(np.abs(sample - centre), 1, keepdims=True)
            mask = scale[:, 0] > params.flat_uv * 1e-6
            logs = np.log(scale[mask, 0])
            spread = 1.4826 * np.median(np.abs(logs - np.median(logs))) if len(logs) else 1.0
            far = (logs - np.median(logs)) / max(spread, SMALLEST_SPREAD) if len(logs) else logs
            mask[mask] = far <= params.amplitude_z
            window = np.clip((window - centre) / np.where(scale > 0, scale, 1.0),
                             -params.clip, params.clip) * mask[:, None]  # fmt: skip
            if self.model.encoder.unit == "microvolts":
                window = known[:, -self._length :] * 1e6 * mask[:, None]
        signals = torch.tensor(window[None], dtype=torch.float32)
        with torch.inference_mode():
            answer: Tensor = self._answer(signals, self._positions, torch.tensor(mask[None]))
        return answer.float().numpy()


class RunningMean:
    """Values relative to the mean of all so far."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.count = 0

    def __call__(self, values: Tensor) -> Tensor:
        """Count values, and give them minus the mean."""
        self.total, self.count = self.total + values.double(), self.count + 1
        return (values - self.total / self.count).float()


def _answers(
    checkpoint: Checkpoint, loaded: LoadedModel, relative: RunningMean | None
) -> tuple[list[str], Callable[..., Tensor]]:
    """Name the columns of answers, and give the function that answers one window."""
    import torch

    encoder = loaded.encoder

    def features(*window: Tensor) -> Tensor:
        parts = encoder.inputs(*window)
        if relative is None:
            return encoder.summary(parts)[0]
        if encoder.slow is not None:
            return encoder.slow_outputs(relative(parts["band"]))[0]
        return relative(encoder.summary(parts)[0])

    if "targets" not in checkpoint.metadata:
        return [f"feature_{number}" for number in range(loaded.n_features)], features
    from hbn_foundation.training.finetuned import load_finetuned, target_descriptions

    model, columns = load_finetuned(checkpoint), list[str]()
    described = target_descriptions(checkpoint.metadata)
    for name, one in described.items():
        columns += [name] if one["is_regression"] else [f"{name}({c})" for c in one["names"]]

    def answer(signals: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        signals, mask = model.prepare(signals, mask)
        parts = model.split(model(signals, positions, mask))
        found = [model.head.parts[name].value(parts[name]) if one["is_regression"]
                 else parts[name][0].softmax(-1) for name, one in described.items()]  # fmt: skip
        values = torch.cat(found)
        return values if relative is None else relative(values)

    return columns, answer


def write_stream(
    checkpoint: Checkpoint,
    source: str,
    file: TextIO,
    *,
    stride: float | None = None,
    chunk: float = 0.04,
    recentre: bool = False,
    fast: bool = False,
    lsl: bool = False,
) -> np.ndarray:
    """Write a line per window of a file that is played, or of a stream; return the latencies (s).

    A stream goes on until Ctrl-C. Parameters are those of `hbn-foundation stream`.
    """
    chunks: Iterator[np.ndarray]
    if lsl:
        inlet = Inlet(source)
        positions, sfreq, chunks = inlet.positions(), inlet.sfreq, inlet.chunks(chunk)
    else:
        recording = _open(source)
        places = zip(recording.channels.names, recording.channels.positions, strict=True)
        positions, sfreq, chunks = dict(places), recording.sfreq, played(recording, chunk, fast)
    streamer = Streamer(checkpoint, positions, sfreq, stride, recentre)
    file.write("\t".join(["start", "latency_ms", *streamer.columns]) + "\n")
    delays: list[float] = []
    with suppress(KeyboardInterrupt), working(lambda: f"{len(delays)} windows so far"):
        for volts in chunks:
            for answer in streamer.push(volts):
                delays.append(answer.latency)
                values = [answer.start, 1e3 * answer.latency, *answer.values]
                file.write("\t".join(f"{value:.6g}" for value in values) + "\n")
                file.flush()
    return np.array(delays)


def _open(source: str) -> Recording:
    """Open one EEG file; anything else is a UserError."""
    if len(given := recordings_given(source)) != 1:
        raise UserError(f"{source}: {len(given)} recordings; expected one file")
    try:
        return open_recording(given[0].row["bids_root"], given[0].row["path"])
    except UnreadableRecording as error:
        raise UserError(f"{source}: {error}") from None


def delays_text(delays: np.ndarray) -> str:
    """Write median and 95th percentile of latencies (s)."""
    if not len(delays):
        return "nothing: shorter than one window"
    median, high = np.percentile(1e3 * delays, [50, 95])
    return f"{median:.1f} ms (median), {high:.1f} ms (95th percentile)"


def played(recording: Recording, chunk_seconds: float, fast: bool) -> Iterator[np.ndarray]:
    """Give volts (C, n) of a recording as an amplifier would, or as fast as possible."""
    size, n = max(round(chunk_seconds * recording.sfreq), 1), int(recording.file.raw.n_times)
    began = time.perf_counter()
    for start in range(0, n, size):
        volts = recording.read(start, min(start + size, n))
        due = began + (start + volts.shape[1]) / recording.sfreq
        if not fast:
            time.sleep(max(due - time.perf_counter(), 0.0))
        yield volts


class Inlet:
    """A stream of the lab streaming layer, by its name or its type: its channels, its samples."""

    def __init__(self, name: str, seconds: float = 10.0) -> None:
        try:
            import pylsl
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f'--lsl needs pylsl ({error}): pip install "hbn-foundation[stream]"'
            ) from None
        found = pylsl.resolve_byprop("name", name, 1, seconds)
        found = found or pylsl.resolve_byprop("type", name, 1, 1.0)
        if not found:
            raise UserError(f"--lsl {name}: no stream of this name or type within {seconds:g} s")
        self._inlet = pylsl.StreamInlet(found[0])
        info = self._inlet.info()
        self.sfreq = float(info.nominal_srate())
        channel, self.names, units = info.desc().child("channels").child("channel"), [], []
        while not channel.empty():
            self.names.append(channel.child_value("label"))
            units.append(channel.child_value("unit").casefold())
            channel = channel.next_sibling()
        if len(self.names) != info.channel_count():
            raise UserError(f"--lsl {name}: its channels have no labels")
        volts = {"volts", "v", "volt"}
        self._factor = np.array([1.0 if unit in volts else 1e-6 for unit in units])[:, None]

    def positions(self) -> dict[str, np.ndarray]:
        """Return unit vectors of the channels that have a place on the head, by name."""
        from hbn_foundation.recordings.montage import template_positions

        found = {}
        for name in self.names:
            try:
                found[name] = template_positions([name])[0]
            except KeyError:
                continue
        return found

    def chunks(self, chunk_seconds: float) -> Iterator[np.ndarray]:
        """Give volts (C, n) of the channels with a position as they come, until Ctrl-C."""
        rows = [self.names.index(name) for name in self.positions()]
        while True:
            samples, _ = self._inlet.pull_chunk(timeout=chunk_seconds)
            if samples:
                yield (np.array(samples).T * self._factor)[rows]
