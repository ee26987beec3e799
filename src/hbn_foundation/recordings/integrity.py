"""Files that hold less than their header promises.

MNE reads a truncated EDF or BDF file as if it were a short one, so what the header says is
compared with the file's size here, before MNE sees it.
"""

from __future__ import annotations

import configparser
import errno
import os
from pathlib import Path

from hbn_foundation.recordings.edf import read_edf_header


class UnreadableRecording(Exception):  # noqa: N818 - names what was met, it is not a fault of the code
    """A recording that cannot be used; the message is the reason, in one line."""


PASSING = (MemoryError, ImportError, PermissionError, TimeoutError, ConnectionError)
FAULTS_OF_A_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EINVAL, errno.EOVERFLOW, errno.EFBIG),
}
"""Errors of the system that follow from what a file holds: names and offsets that cannot be."""


def is_passing(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, says nothing of the file itself.

    Memory or a package is missing, the disk or the network fails, the file may not be read: the
    same file can be read another time.
    """
    while error is not None:
        if isinstance(error, PASSING):
            return True
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno not in FAULTS_OF_A_FILE
        error = error.__cause__ or error.__context__
    return False


def check_file(path: Path) -> None:
    """Raise UnreadableRecording when the file is missing, empty or shorter than it says."""
    if not path.exists():
        raise UnreadableRecording("the file is missing (or a link to a file not downloaded)")
    if path.is_dir():
        if not any(path.iterdir()):
            raise UnreadableRecording("empty folder")
        return
    if path.stat().st_size == 0:
        raise UnreadableRecording("empty file (0 bytes)")
    ending = path.suffix.lower()
    if ending in (".edf", ".bdf"):
        _check_edf(path, ending)
    elif ending == ".vhdr":
        _check_brainvision(path)


def _check_edf(path: Path, ending: str) -> None:
    """Compare an EDF or BDF file's size with its header."""
    kind = ending[1:].upper()
    start = b"0" if ending == ".edf" else b"\xffBIOSEMI"
    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith(start):
        raise UnreadableRecording(f"not a {kind} file: it begins with {head!r}")
    try:
        header = read_edf_header(path)
    except ValueError as error:
        raise UnreadableRecording(f"damaged {kind} header ({_line(error)})") from error
    seconds = header.record_seconds
    if not seconds > 0:
        raise UnreadableRecording(f"sampling rate of 0 Hz or unknown: records of {seconds:g} s")
    held = path.stat().st_size - header.n_bytes
    if header.record_bytes <= 0 or held < header.record_bytes:
        raise UnreadableRecording("no samples: the file ends with its header")
    if header.n_records >= 0 and held < header.n_records * header.record_bytes:
        _truncated(held / header.record_bytes * seconds, header.n_records * seconds)


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
        raise UnreadableRecording(f"not a BrainVision header ({_line(error)})") from error
    if interval <= 0:
        raise UnreadableRecording("sampling rate of 0 Hz or unknown: SamplingInterval is 0")
    if not data.is_file():
        own = path.with_suffix(".eeg").name
        renamed = f" ({own} is there: DataFile in the header names another)"
        there = renamed if path.with_suffix(".eeg").is_file() else ""
        raise UnreadableRecording(f"its data file {data.name} is missing{there}")
    size = data.stat().st_size
    if size == 0:
        raise UnreadableRecording(f"its data file {data.name} is empty (0 bytes)")
    number = parser.get("Binary Infos", "BinaryFormat", fallback="INT_16").upper()
    frame = n_channels * {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}.get(number, 1)
    binary = common.get("DataFormat", "BINARY").upper() == "BINARY"
    points = common.get("DataPoints")
    if binary and points and points.isdigit() and size < int(points) * frame:
        _truncated(size / frame * interval / 1e6, int(points) * interval / 1e6)
    if binary and size % frame:
        raise UnreadableRecording(
            f"truncated: {data.name} ends within a sample ({size} bytes, {frame} for each)"
        )


def check_fdt(header: Path, data_files: list[Path], n_channels: int, n_samples: int) -> None:
    """Compare the size of an EEGLAB recording's .fdt with its header (float32 samples)."""
    for data in data_files:
        if data.suffix.lower() != ".fdt" or data == header:
            continue
        if not data.is_file():
            raise UnreadableRecording(f"its data file {data.name} is missing")
        held = os.path.getsize(data) / (4 * n_channels)
        if held < n_samples:
            raise UnreadableRecording(
                f"truncated: {data.name} holds {held:.0f} of {n_samples} samples"
            )


def check_duration(held: float, promised: object) -> None:
    """Compare a recording's seconds with its sidecar, where the header has no length."""
    if isinstance(promised, int | float) and promised > 0 and held < 0.9 * promised - 1:
        _truncated(held, float(promised))


def _truncated(held: float, promised: float) -> None:
    raise UnreadableRecording(f"truncated: {held:.1f} of {promised:.1f} s are there")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
