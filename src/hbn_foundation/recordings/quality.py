"""Which channels of a recording are bad and why, and measures of the recording as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hbn_foundation.recordings.channel_tally import ChannelTally
from hbn_foundation.recordings.params import CleaningParams

MIN_CHANNELS_TO_COMPARE = 8
"""With fewer, a channel is not judged by the others."""

REFERENCE = "reference"
"""Reason of a flat channel that the sidecar names as the reference: unusable, but not bad."""

MIN_LOG_SPREAD = 0.2
"""Least robust deviation of log amplitudes; montages more even than that are no reason."""

AMPLITUDES_UV = (0.5, 500.0)
"""Least and greatest median amplitude of EEG in µV: beyond, the unit is not what it seems."""


def bad_channels(
    names: Sequence[str],
    tally: ChannelTally,
    scales: np.ndarray,
    correlation: np.ndarray,
    params: CleaningParams,
) -> dict[str, str]:
    """Find the bad channels, each with the first reason that holds.

    Parameters
    ----------
    names
        Names of the C channels.
    tally
        What was counted in the raw samples.
    scales
        (C,) robust amplitude of the clean signal in volts.
    correlation
        (C,) highest absolute correlation of each clean channel with another.
    params
        The thresholds.

    Returns
    -------
    dict
        Reasons by channel: ``missing samples``, ``flat``, ``clipping``, then, against the
        others that are left, ``noisy`` (robust z of the log amplitude, after PREP,
        Bigdely-Shamlo et al. 2015), ``weak`` and ``uncorrelated``.
    """
    bad: dict[str, str] = {}
    flat = (tally.flat_share >= params.flat_share) | (scales <= 0)
    for i, name in enumerate(names):
        if tally.missing_share[i] > params.missing_share:
            bad[name] = "missing samples"
        elif flat[i]:
            bad[name] = "flat"
        elif tally.clipping_share[i] >= params.clipping_share:
            bad[name] = "clipping"
    left = np.array([i for i, name in enumerate(names) if name not in bad], int)
    if len(left) < MIN_CHANNELS_TO_COMPARE:
        return bad
    log = np.log(scales[left])
    middle = np.median(log)
    spread = max(1.4826 * float(np.median(np.abs(log - middle))), MIN_LOG_SPREAD)
    z = (log - middle) / spread
    weak = log < middle + np.log(max(params.weak_ratio, 1e-12))
    for i, z_i, weak_i in zip(left, z, weak, strict=True):
        if z_i > params.amplitude_z:
            bad[names[i]] = "noisy"
        elif weak_i:
            bad[names[i]] = "weak"
        elif correlation[i] < params.min_correlation:
            bad[names[i]] = "uncorrelated"
    return bad


def name_reference(bad: dict[str, str], reference: Any) -> dict[str, str]:
    """Name a flat channel for what it is where it is the reference of the others.

    Parameters
    ----------
    bad
        Reasons by channel.
    reference
        `EEGReference` of the sidecar, such as ``Cz`` or ``Cz (vertex)``.
    """
    words = set(re.findall(r"\w+", str(reference or "").casefold()))
    return {
        name: REFERENCE if why == "flat" and name.casefold() in words else why
        for name, why in bad.items()
    }


def highest_correlation(sample: np.ndarray) -> np.ndarray:
    """Highest absolute correlation of each row of (C, S) with another; 0 for constant ones."""
    centred = sample - sample.mean(axis=1, keepdims=True)
    products = centred @ centred.T
    norm = np.sqrt(np.diag(products))
    matrix = np.abs(products) / np.maximum(np.outer(norm, norm), 1e-20)
    np.fill_diagonal(matrix, 0.0)
    return matrix.max(axis=0, initial=0.0)


def quality_measures(
    names: Sequence[str],
    bad: Sequence[str],
    unknown: Sequence[str],
    scales: np.ndarray,
    line_ratio: np.ndarray,
    clipped: float,
) -> dict[str, float | str]:
    """Measures of a recording, as columns of the store's table.

    Returns
    -------
    dict
        ``amplitude_uv``: median robust amplitude of the good channels in µV;
        ``line_noise``: median power at the mains frequency over that beside it (1 is none,
        NaN where the sampling rate does not reach it); ``clipped_share``: share of clean
        samples cut at the limit; ``unknown_channels``: EEG channels left out for want of a
        position, or for the name of another signal.
    """
    good = [i for i, name in enumerate(names) if name not in bad]
    line = line_ratio[good]
    line = line[np.isfinite(line)]
    return {
        "amplitude_uv": float(np.median(scales[good]) * 1e6) if good else float("nan"),
        "line_noise": float(np.median(line)) if len(line) else float("nan"),
        "clipped_share": clipped,
        "unknown_channels": ", ".join(unknown),
    }


def amplitude_notes(amplitude_uv: float) -> list[str]:
    """Say in a sentence that a recording's median amplitude cannot be that of EEG, if so."""
    if AMPLITUDES_UV[0] <= amplitude_uv <= AMPLITUDES_UV[1]:
        return []
    return [
        f"median amplitude of {amplitude_uv:.3g} µV, expected {AMPLITUDES_UV[0]:g} to "
        f"{AMPLITUDES_UV[1]:g} µV: its unit is probably wrong"
    ]
