"""Open a recording's file, or raise an error of one line that says why it cannot be used.

Files are opened with `mne.io.read_raw` and the sidecars read here. `mne_bids.read_raw_bids`
takes half as long again, and fails where this package need not: on events whose onset is
``n/a``, a participant missing from participants.tsv, a channels.tsv that disagrees with the file.
MNE reads a truncated EDF or BDF file as if it were a short one, so what a header promises is
compared with the file's size before MNE sees it; readers of other formats fail where samples lack.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids import sidecars
from hbn_foundation.errors import causes, one_line
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
    """An open file at `path` of a BIDS root; nothing of MNE's `raw` is in memory.

    A `raw` that was in memory before (`in_memory`) has neither path nor header nor sidecars.

    `header` is that of an EDF or BDF file, None for other formats; `info` is the content of
    eeg.json. `notes` tells what was left out, guessed or not read, a sentence each, for the
    quality table; each function that reads from the file adds its own.
    """

    raw: Any
    root: str
    path: str
    header: EdfHeader | None
    info: Mapping[str, Any]
    notes: list[str]

    @property
    def ending(self) -> str:
        """Ending of its name: ``.vhdr``."""
        return Path(self.path).suffix.lower()


def open_file(root: str, path: str) -> EegFile:
    """Open a recording's file of a BIDS root; UnreadableRecording as `read_raw`."""
    info: dict[str, Any] = {}
    notes: list[str] = []
    for sidecar in reversed(sidecars(root, path, "eeg.json")):  # the nearest overrides
        try:
            info.update(read_json(sidecar))
        except UnreadableSidecar as error:
            notes.append(str(error))
    raw = read_raw(Path(root, path), notes)
    header = read_edf_header(Path(root, path)) if is_edf(path) else None
    if header is not None and len(header.names) != len(raw.ch_names):
        raise UnreadableRecording(
            f"{len(raw.ch_names)} channels, but {len(header.names)} signals in its header"
        )
    file = EegFile(raw, root, path, header, info, notes)
    if file.ending == ".vhdr":
        _check_brainvision(file)
    return file


def in_memory(raw: Any) -> EegFile:
    """Take a `mne.io.BaseRaw` for an open file; its own channels, bads and annotations count.

    Raises
    ------
    UnreadableRecording
        It has no samples.
    """
    if raw.n_times == 0:
        raise UnreadableRecording("no samples")
    return EegFile(raw, "", "", None, {}, [])


def is_transient(error: BaseException) -> bool:
    """Return whether an error, or its cause, does not come from the file itself.

    Memory or a package is missing, the disk or the network fails, permission is denied: the same
    file may be readable in another run.
    """
    for cause in causes(error):
        if isinstance(cause, TRANSIENT):
            return True
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno not in FAULTS_OF_A_FILE
    return False


def read_raw(path: Path, notes: list[str], **options: Any) -> Any:
    """Open a file (or ``.mff`` folder) as `mne.io.BaseRaw`, without loading its samples.

    Only an EEGLAB file that holds its own samples is in memory. What the reader warns of is added
    to `notes`, as far as it concerns the signal; `options` are the reader's, such as ``include``.

    Raises
    ------
    UnreadableRecording
        With the reason, whatever is wrong with the file.
    """
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
    warned = [one_line(str(w.message)) for w in caught if issubclass(w.category, RuntimeWarning)]
    warned = [f"MNE: {text}" for text in warned if not NO_EFFECT.search(text)]
    notes += [text for text in dict.fromkeys(warned) if text not in notes]
    if not np.isfinite(raw.info["sfreq"]) or raw.info["sfreq"] <= 0:
        raise UnreadableRecording(f"sampling rate of {raw.info['sfreq']:g} Hz")
    if raw.n_times == 0:
        raise UnreadableRecording("no samples")
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
    """Raise UnreadableRecording if the file is missing, empty or an EDF shorter than it says."""
    if not path.exists():
        raise UnreadableRecording("the file is missing (or a link to a file not downloaded)")
    if path.is_dir():
        if not any(path.iterdir()):
            raise UnreadableRecording("empty folder")
    elif path.stat().st_size == 0:
        raise UnreadableRecording("empty file (0 bytes)")
    elif is_edf(path):
        _check_edf(path)


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
    n_bytes = path.stat().st_size - header.n_bytes
    if header.record_bytes <= 0 or n_bytes < header.record_bytes:
        raise UnreadableRecording("no samples: the file ends with its header")
    held, promised = n_bytes / header.record_bytes * seconds, header.n_records * seconds
    if held < promised:
        raise UnreadableRecording(f"truncated: {held:.1f} of {promised:.1f} s are there")


def _check_brainvision(file: EegFile) -> None:
    """Raise UnreadableRecording for a file cut short: its header may have no length."""
    raw, promised = file.raw, file.info.get("RecordingDuration")
    held = raw.n_times / raw.info["sfreq"]
    if isinstance(promised, int | float) and held < 0.9 * promised - 1:  # a sidecar rounds
        raise UnreadableRecording(f"truncated: {held:.1f} of {promised:.1f} s are there")
    data, n_bytes = Path(raw.filenames[0]), 2 if raw.orig_format == "short" else 4
    is_text = b"DataFormat=ASCII" in Path(file.root, file.path).read_bytes()
    if not is_text and data.stat().st_size % (n_bytes * len(raw.ch_names)):
        raise UnreadableRecording(f"truncated: {data.name} ends within a sample")
