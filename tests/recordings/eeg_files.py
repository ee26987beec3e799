"""Small EEG files of every format, for tests."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import edfio
import mne
import numpy as np

from hbn_foundation.recordings.recording import Recording, open_recording

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz", "T3")


def noise(n_channels: int, n_samples: int, sfreq: float, seed: int = 0) -> np.ndarray:
    """Correlated 1/f-like noise of about 10 µV with a 10 Hz rhythm, in volts."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n_channels, n_samples))
    white = white + 1.5 * rng.standard_normal((1, n_samples))
    spectrum = np.fft.rfft(white)
    frequencies = np.fft.rfftfreq(n_samples, 1 / sfreq)
    spectrum /= np.maximum(frequencies, 0.3) ** 0.7
    signal = np.fft.irfft(spectrum, n_samples)
    signal /= signal.std(axis=1, keepdims=True)
    rhythm = np.sin(2 * np.pi * 10 * np.arange(n_samples) / sfreq)
    return 1e-5 * (signal + 0.5 * rhythm)


def raw_array(
    signal: np.ndarray, sfreq: float, names: tuple[str, ...] = NAMES, types: str | list = "eeg"
) -> mne.io.RawArray:
    names = names[: len(signal)]
    return mne.io.RawArray(signal, mne.create_info(list(names), sfreq, types), verbose="ERROR")


def in_head_coordinates(montage: str) -> dict[str, np.ndarray]:
    """Positions of one of MNE's montages in metres, by name."""
    made = mne.channels.make_standard_montage(montage)
    info = mne.create_info(made.ch_names, 100.0, "eeg").set_montage(made, verbose="ERROR")
    return {channel["ch_name"]: channel["loc"][:3] for channel in info["chs"]}


def bids_file(root: Path, ending: str, subject: str = "1", task: str = "rest") -> Path:
    """Path of a recording in a BIDS root, whose folder is made."""
    folder = root / f"sub-{subject}" / "eeg"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.8.0"}')
    return folder / f"sub-{subject}_task-{task}_eeg{ending}"


def write(raw: mne.io.BaseRaw, path: Path) -> Path:
    """Write a recording in the format that the path's ending names."""
    if path.suffix == ".fif":
        raw.save(path, verbose="ERROR")
    elif path.suffix == ".bdf":
        sfreq = raw.info["sfreq"]
        whole = int(raw.n_times // sfreq * sfreq)
        edf(path, raw.get_data()[:, :whole], sfreq, raw.ch_names)
    else:
        mne.export.export_raw(path, raw, verbose="ERROR", overwrite=True)
    return path


def edf(
    path: Path,
    signals: Sequence[np.ndarray],
    rates: float | Sequence[float],
    names: Sequence[str] = NAMES,
    filters: str | Sequence[str] = "",
    units: str | Sequence[str] = "uV",
    annotations: list[edfio.EdfAnnotation] | None = None,
) -> Path:
    """Write an EDF or BDF file of signals in volts; names may occur twice."""
    is_edf = path.suffix == ".edf"
    kind, whole = (edfio.EdfSignal, edfio.Edf) if is_edf else (edfio.BdfSignal, edfio.Bdf)
    n = len(signals)
    rates, filters, units = (
        [given] * n if isinstance(given, str | float | int) else given
        for given in (rates, filters, units)
    )
    whole(
        [
            kind(x * 1e6, rate, label=name, physical_dimension=unit, prefiltering=filtering)
            for x, rate, name, unit, filtering in zip(
                signals, rates, names[:n], units, filters, strict=True
            )
        ],
        annotations=annotations,
    ).write(path)
    return path


def never_read(path: Path) -> None:
    """Change a FIF file so that its reader never returns: a directory's next one is itself."""
    whole, third = path.read_bytes(), 16 + 20 + 16 + 4
    path.write_bytes(whole[: third + 12] + struct.pack(">i", third) + whole[third + 16 :])


def cut_to(path: Path, size: int) -> None:
    """Cut a file short."""
    with path.open("r+b") as file:
        file.truncate(size)


def beside(path: Path, suffix: str) -> Path:
    """Path of a recording's sidecar."""
    return path.with_name(f"{path.name.partition('_eeg.')[0]}_{suffix}")


def write_sidecar(path: Path, **content: object) -> None:
    path.with_suffix(".json").write_text(json.dumps(content))


def write_channels(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write channels.tsv beside a recording: name, type, status."""
    lines = ["name\ttype\tunits\tstatus", *(f"{n}\t{t}\tuV\t{s}" for n, t, s in rows)]
    beside(path, "channels.tsv").write_text("\n".join(lines) + "\n")


def row(root: Path, path: Path) -> dict[str, str]:
    return {
        "bids_root": str(root),
        "path": path.relative_to(root).as_posix(),
        "recording": path.name.partition("_eeg.")[0],
        "subject": path.name.partition("_")[0].removeprefix("sub-"),
    }


def opened(root: Path, path: Path, **options: str) -> Recording:
    return open_recording(str(root), path.relative_to(root).as_posix(), **options)
