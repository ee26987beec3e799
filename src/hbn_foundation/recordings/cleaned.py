"""What cleaning one recording yields, beside the signal file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class CleanedRecording:
    """Description of one clean recording; its signal lies in a ``.npy`` file of shape (T, C).

    Attributes
    ----------
    names
        Canonical channel names, in the order of the signal's columns.
    positions
        (C, 3) unit vectors in head coordinates.
    scales
        (C,) volts per stored unit.
    n_samples
        Length of the signal.
    sfreq
        Sampling rate of the signal in Hz.
    bad
        Bad channels and why: ``{"Cz": "flat"}``. They stay in the signal and are masked.
    quality
        Measures of the whole recording, one number or text each (see `quality.py`).
    """

    names: tuple[str, ...]
    positions: np.ndarray
    scales: np.ndarray
    n_samples: int
    sfreq: float
    bad: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float | str] = field(default_factory=dict)
