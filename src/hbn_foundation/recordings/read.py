"""Open a recording's file, or raise an error of one line that says why it cannot be used.

Files are opened with `mne.io.read_raw` and the sidecars read here. `mne_bids.read_raw_bids`
takes half as long again, and fails where this package need not: on events whose onset is
``n/a``, a participant missing from participants.tsv, a channels.tsv that disagrees with the file.
MNE reads a truncated EDF or BDF file as if it were a short one, so what a header promises is
compared with the file's size before MNE sees it.
"""

from __future__ import annotations

import configparser
import errno
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids import sidecars
from hbn_foundation.errors import one_line
from hbn_foundation.recordings.edf import EdfHeader, is_edf, read_edf_header
from hbn_foundation.sidecars import UnreadableSidecar, read_json

NO_EFFECT = re.compile(
    # filters, gaps and channels: read by this package
    r"different (high|low)pass|cutoff frequency|software filter|boundary|mixed sampling|not unique"
    # what is not used: dates, persons, positions of other points, times of annotations
    r"|date|birth|patient|subject|naming conventions|channel loc|coordinate|montage|position"
    r"|annotation\(s\)|events have an onset",
    re.IGNORECASE,
)
"""Warnings of readers that do not concern the signal."""

TRANSIENT = (MemoryError, ImportError, PermissionError, TimeoutError, ConnectionError)
FAULTS_OF_A_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EINVAL, errno.EOVERFLOW, errno.EFBIG),
}
"""Errors of the system caused by a file's content: impossible names and offsets."""


class UnreadableRecording(Exception):  # noqa: N818 - a state of the data, not a fault of the code
    """A recording that cannot be used; the message is the reason, in one line."""


@dataclass(frozen=True)
class EegFile:
    """An open file of a BIDS root; nothing of it is in memory.

    Attributes
    ----------
    raw
        MNE's object.
    root, path
        The BIDS root, and the file relative to it.
    header
        Of an EDF or BDF file; None for other formats.
    info
        Content of eeg.json.
    notes
        What was left out, guessed or not read, a sentence each, for the quality table; each
        function that reads from the file adds its own.
    """

    raw: Any
    root: str
    path: str
    header: EdfHeader | None
    info: Mapping[str, Any]
    notes: list[str]


def open_file(root: str, path: str) -> EegFile:
    """Open a recording's file of a BIDS root; UnreadableRecording as `read_raw`."""
    file = Path(root, path)
    info: dict[str, Any] = {}
    notes: list[str] = []
    for sidecar in reversed(sidecars(root, path, "eeg.json")):  # the nearest overrides
        try:
            info.update(read_json(sidecar))
        except UnreadableSidecar as error:
            notes.append(str(error))
    raw = read_raw(file, notes)
    promised, held = info.get("RecordingDuration"), raw.n_times / raw.info["sfreq"]
    is_known = file.suffix.lower() != ".vhdr"  # a BrainVision header may have no length
    if not is_known and isinstance(promised, int | float) and held < 0.9 * promised - 1:
        check_length(held, promised)
    header = read_edf_header(file) if is_edf(path) else None
    if header is not None and len(header.channels) != len(raw.ch_names):
        raise UnreadableRecording(
            f"{len(raw.ch_names)} channels, but {len(header.channels)} signals in its header"
        )
    return EegFile(raw, root, path, header, info, notes)


def is_transient(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, does not come from the file itself.

    Memory or a package is missing, the disk or the network fails, permission is denied: the same
    file may be readable in another run.
    """
    while error is not None:
        if isinstance(error, TRANSIENT):
            return True
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno not in FAULTS_OF_A_FILE
        error = error.__cause__ or error.__context__
    return False


def read_raw(path: str | Path, notes: list[str] | None = None, **options: Any) -> Any:
    """Open a recording without loading its samples.

    Parameters
    ----------
    path
        The file (or ``.mff`` folder).
    notes
        What the reader warns of is added here, as far as it concerns the signal.
    options
        Of the reader, such as ``include``.

    Returns
    -------
    mne.io.BaseRaw
        Not preloaded; only an EEGLAB file that holds its own samples is in memory.

    Raises
    ------
    UnreadableRecording
        With the reason, whatever is wrong with the file.
    """
    path = Path(path)
    try:
        _check_file(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = _opened(path, options)
        raw.get_channel_types()  # a damaged FIF file may hold invalid kinds
    except UnreadableRecording:
        raise
    except Exception as error:  # any error of a reader rejects the file
        if is_transient(error):
            raise
        raise UnreadableRecording(f"cannot be read: {one_line(error)}") from error
    if notes is not None:
        warned = [
            one_line(str(w.message)) for w in caught if issubclass(w.category, RuntimeWarning)
        ]
        warned = [f"MNE: {text}" for text in warned if not NO_EFFECT.search(text)]
        notes += [text for text in dict.fromkeys(warned) if text not in notes]
    if not np.isfinite(raw.info["sfreq"]) or raw.info["sfreq"] <= 0:
        raise UnreadableRecording(f"sampling rate of {raw.info['sfreq']:g} Hz")
    if raw.n_times == 0:
        raise UnreadableRecording("no samples")
    for data in (Path(name) for name in raw.filenames if name is not None):
        if data.suffix.lower() == ".fdt" and data != path:
            _check_fdt(data, len(raw.ch_names), raw.n_times)
    return raw


def _opened(path: Path, options: dict[str, Any]) -> Any:
    import mne

    # mne.io.read_raw recognises EGI only by .mff
    reader = mne.io.read_raw_egi if path.suffix.lower() == ".raw" else mne.io.read_raw
    try:
        return reader(path, preload=False, verbose="WARNING", **options)
    except Exception as error:
        # the texts of annotations in EDF may be in another encoding than UTF-8
        if not is_edf(path) or "latin1" not in str(error):
            raise
        return reader(path, preload=False, verbose="WARNING", encoding="latin1", **options)


def _check_file(path: Path) -> None:
    """Raise UnreadableRecording when the file is missing, empty or shorter than it says."""
    if not path.exists():
        raise UnreadableRecording("the file is missing (or a link to a file not downloaded)")
    if path.is_dir():
        if not any(path.iterdir()):
            raise UnreadableRecording("empty folder")
    elif path.stat().st_size == 0:
        raise UnreadableRecording("empty file (0 bytes)")
    elif is_edf(path):
        _check_edf(path)
    elif path.suffix.lower() == ".vhdr":
        _check_brainvision(path)


def _check_edf(path: Path) -> None:
    kind = path.suffix[1:].upper()
    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith(b"0" if kind == "EDF" else b"\xffBIOSEMI"):
        raise UnreadableRecording(f"not a {kind} file: it begins with {head!r}")
    try:
        header = read_edf_header(path)
    except ValueError as error:
        raise UnreadableRecording(f"damaged {kind} header ({one_line(error, 160)})") from error
    seconds = header.record_seconds
    if not seconds > 0:
        raise UnreadableRecording(f"sampling rate of 0 Hz or unknown: records of {seconds:g} s")
    held = path.stat().st_size - header.n_bytes
    if header.record_bytes <= 0 or held < header.record_bytes:
        raise UnreadableRecording("no samples: the file ends with its header")
    check_length(held / header.record_bytes * seconds, header.n_records * seconds)


def _check_brainvision(path: Path) -> None:
    """Find the data file of a BrainVision header and compare its size with the header."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        parser.read_string(text[text.index("[") :].split("[Comment]")[0])
        common = parser["Common Infos"]
        data = path.parent / common["DataFile"].replace("$b", path.stem)
        n_channels = int(common["NumberOfChannels"])
        interval = float(common["SamplingInterval"])
    except (configparser.Error, KeyError, ValueError) as error:
        raise UnreadableRecording(f"not a BrainVision header ({one_line(error, 160)})") from error
    if not data.is_file():
        own = path.with_suffix(".eeg")
        renamed = f" ({own.name} is there: DataFile in the header names another)"
        raise UnreadableRecording(
            f"its data file {data.name} is missing{renamed if own.is_file() else ''}"
        )
    if common.get("DataFormat", "BINARY").upper() != "BINARY":
        return
    number = parser.get("Binary Infos", "BinaryFormat", fallback="INT_16").upper()
    frame = n_channels * {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}.get(number, 1)
    held, rest = divmod(data.stat().st_size, frame)
    points = common.get("DataPoints") or ""
    if points.isdigit():
        check_length(held * interval / 1e6, int(points) * interval / 1e6)
    if rest:
        raise UnreadableRecording(
            f"truncated: {data.name} ends within a sample of {frame} bytes ({rest} are there)"
        )


def _check_fdt(data: Path, n_channels: int, n_samples: int) -> None:
    """Compare the size of an EEGLAB recording's .fdt with its header (float32 samples)."""
    if not data.is_file():
        raise UnreadableRecording(f"its data file {data.name} is missing")
    held = data.stat().st_size / (4 * n_channels)
    if held < n_samples:
        raise UnreadableRecording(f"truncated: {data.name} holds {held:.0f} of {n_samples} samples")


def check_length(held: float, promised: float) -> None:
    """Raise UnreadableRecording where fewer seconds are there than a header promises."""
    if held < promised:
        raise UnreadableRecording(f"truncated: {held:.1f} of {promised:.1f} s are there")
