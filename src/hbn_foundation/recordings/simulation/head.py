"""The head of the simulated release: topographies of the sources at 129 electrodes.

A sphere of four shells (MNE's defaults) fitted to the GSN-HydroCel-129 montage, current dipoles
in the innermost, potentials referred to Cz as EGI's amplifier does it. Sources point outwards
below an electrode; those named here are the generators that the simulation uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

MONTAGE, REFERENCE = "GSN-HydroCel-129", "Cz"

PLACES = {
    "alpha": {"E70": 0.78, "E75": 0.78, "E83": 0.78, "E52": 0.78, "E92": 0.78},
    "alpha_left": {"E24": 0.75},
    "alpha_right": {"E124": 0.75},
    "theta": {"E11": 0.72, "E6": 0.60, "E16": 0.72},
    "beta": {"E24": 0.80, "E124": 0.80, "E29": 0.80, "E111": 0.80, "E11": 0.80},
    "hand_left": {"E36": 0.82},
    "hand_right": {"E104": 0.82},
    "flicker": {"E75": 0.72},
    "build_up": {"E62": 0.60},
    "feedback": {"E62": 0.50},
    "eye_left": {"E22": 0.97},
    "eye_right": {"E9": 0.97},
    "muscle": {"E44": 0.96, "E114": 0.96, "E56": 0.96, "E107": 0.96, "E48": 0.96, "E119": 0.96},
}
"""Electrodes above a component's sources, and these' depth as a share of the brain's radius."""

BRAIN_SHARE = 0.9  # innermost of the sphere's relative radii


@dataclass(frozen=True)
class Head:
    """Topographies of all sources, referred to Cz, at the 129 channels, `Cz` last.

    Those (129, k) of a component have 1 for the largest magnitude of each column; the `background`
    (129, n) is scaled so that unit noise in all its dipoles has a root mean square of 1 at the
    average channel.
    """

    names: tuple[str, ...]
    topographies: dict[str, np.ndarray]
    background: np.ndarray


@lru_cache(maxsize=2)
def make_head(n_background: int) -> Head:
    """Compute the topographies once with MNE's spherical head model.

    The dipoles of the 1/f background are spread evenly over the part of the brain above the ears,
    with orientations between radial and tangential.
    """
    import mne

    montage = mne.channels.make_standard_montage(MONTAGE)
    info = mne.create_info(montage.ch_names, 100.0, "eeg", verbose="error").set_montage(montage)
    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    centre, radius = sphere["r0"], BRAIN_SHARE * sphere["layers"][-1]["rad"]
    at = {ch["ch_name"]: ch["loc"][:3] - centre for ch in info["chs"]}
    chosen = [place for places in PLACES.values() for place in places.items()]
    outward = np.array([at[name] / np.linalg.norm(at[name]) for name, _ in chosen])
    depth = np.array([[share] for _, share in chosen])
    spread, turned = _background_dipoles(n_background)
    rr = centre + radius * np.vstack([outward * depth, spread * 0.8])
    gain = _gain(info, sphere, rr, np.vstack([outward, turned]))
    gain = gain - gain[montage.ch_names.index(REFERENCE)]
    topographies, first = {}, 0
    for name, places in PLACES.items():
        part = gain[:, first : first + len(places)]
        topographies[name] = (part / np.abs(part).max(axis=0)).astype(np.float32)
        first += len(places)
    background = gain[:, first:]
    background = background / np.sqrt((background**2).sum(axis=1).mean())
    return Head(tuple(montage.ch_names), topographies, background.astype(np.float32))


def _gain(info: Any, sphere: Any, rr: np.ndarray, nn: np.ndarray) -> np.ndarray:
    """(129, n) potentials of dipoles at positions `rr` with orientations `nn`."""
    import mne

    source = mne.setup_volume_source_space(pos={"rr": rr, "nn": nn}, verbose="error")
    forward = mne.make_forward_solution(
        info, None, source, sphere, meg=False, eeg=True, verbose="error"
    )
    free = forward["sol"]["data"].reshape(len(info["chs"]), len(rr), 3)
    return np.einsum("csk,sk->cs", free, nn)


def _background_dipoles(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions on a Fibonacci spiral (upper three quarters) and tilted orientations, (n, 3)."""
    rng = np.random.default_rng(129)
    height = 1.0 - 1.5 * (np.arange(n) + 0.5) / n
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n)
    flat = np.sqrt(1.0 - height**2)
    spread = np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height])
    tilted = spread + 0.9 * rng.standard_normal((n, 3))
    return spread, tilted / np.linalg.norm(tilted, axis=1, keepdims=True)
