"""Find the units of a recording's channels, by their file and by channels.tsv."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import numpy as np

from hbn_foundation.errors import first_few
from hbn_foundation.recordings.read import EegFile

UNITS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6, "nv": 1e-9}
READ_AS = {"uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3}
"""Units of EDF and BDF that MNE knows, in volts; it takes all others for volts."""

USUAL_UV = 15.0
"""Usual amplitude of EEG in µV, to decide between units that differ by a thousand."""


def volt_factors(
    file: EegFile, picks: Sequence[int], names: Sequence[str], declared: Sequence[str]
) -> np.ndarray:
    """(C,) factors from the reader's numbers to volts.

    EDF and BDF files name a unit for each channel, and MNE takes those it does not know for
    volts. EEGLAB files name none, and MNE takes them for µV. Other formats have their unit.

    Parameters
    ----------
    file
        Guesses are added to its notes.
    picks, names, declared
        Column, name and unit by channels.tsv ("" for none) of each of the C channels asked for.
    """
    if file.ending == ".set":
        return _by_amplitude(file, picks, declared)
    factors = np.ones(len(picks))
    if file.header is None:
        return factors
    unknown, mangled = [], set()
    for i, (pick, name, said) in enumerate(zip(picks, names, declared, strict=True)):
        unit = file.header.units[pick]
        volts = _in_volts(unit) or _in_volts(said)
        if volts is None and re.fullmatch(r"[^A-Za-z0-9\s]V", unit):
            volts = 1e-6
            mangled.add(unit)
        if volts is None:
            unknown.append(name)
        else:
            factors[i] = volts / READ_AS.get(unit, 1.0)
    file.notes.extend(f"unit {unit!r} of the file taken for µV" for unit in sorted(mangled))
    if unknown:
        file.notes.append(
            f"neither the file nor channels.tsv has a unit for {first_few(unknown)}: taken for "
            "volts"
        )
    return factors


def _by_amplitude(file: EegFile, picks: Sequence[int], declared: Sequence[str]) -> np.ndarray:
    """(C,) factors of a file without units: those of channels.tsv, unless µV is more likely.

    Tables often declare V for signals in µV, so the amplitude decides.
    """
    factors = np.array([_in_volts(unit) or 1e-6 for unit in declared]) / 1e-6
    if (factors == 1).all():
        return factors
    lag = max(round(0.05 * file.raw.info["sfreq"]), 1)  # differences have no drift
    samples = file.raw.get_data(list(picks), tmax=60, verbose="ERROR")
    change = np.abs(samples[:, lag:] - samples[:, :-lag]) * 1e6
    as_said, as_read = np.nanmedian(change * factors[:, None]), np.nanmedian(change)
    said = ", ".join(sorted({unit for unit in declared if unit}))
    if as_read > 0 and abs(np.log(as_read / USUAL_UV)) < abs(np.log(as_said / USUAL_UV)):
        file.notes.append(f"channels.tsv has the unit {said}: by their amplitude signals are in µV")
        return np.ones(len(picks))
    file.notes.append(f"unit of channels.tsv: {said}")
    return factors


def _in_volts(unit: str) -> float | None:
    """Volts in a unit, however its µ is written; None for no unit of voltage."""
    with contextlib.suppress(UnicodeError):  # UTF-8 in a header that is read as latin-1
        unit = unit.encode("latin-1").decode("utf-8")
    text = re.sub(r"^(µ|μ|\x83\xca|micro)", "u", unit.strip().lower())
    return UNITS.get(re.sub(r"volts?$", "v", text))
