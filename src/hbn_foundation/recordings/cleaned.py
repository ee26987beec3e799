"""What cleaning one recording yields, beside the signal file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hbn_foundation.recordings.timeline import Timeline


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
    timeline
        Continuous stretches and bad segments of the signal, at its own rate.
    bad
        Bad channels and why: ``{"Cz": "flat"}``. They stay in the signal and are masked.
    quality
        Measures of the whole recording, one number or text each (see `quality.py`).
    """

    names: tuple[str, ...]
    positions: np.ndarray
    scales: np.ndarray
    timeline: Timeline
    bad: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Length of the signal."""
        return self.timeline.stretches[-1].stop

    @property
    def sfreq(self) -> float:
        """Sampling rate of the signal in Hz."""
        return self.timeline.sfreq
