"""The head of the simulated release: what each source looks like at 129 electrodes.

A sphere of four shells (MNE's defaults) fitted to the GSN-HydroCel-129 montage, current dipoles
in the innermost, potentials referred to Cz as EGI's amplifier does it. Sources are placed below
electrodes; those named here are the generators that the simulation uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MONTAGE, REFERENCE = "GSN-HydroCel-129", "Cz"

# (electrode above the source, depth as a share of the brain's radius, orientation)
PLACES: dict[str, tuple[tuple[str, float, str], ...]] = {
    "alpha": tuple((name, 0.78, "out") for name in ("E70", "E75", "E83", "E52", "E92")),
    "alpha_left": (("E24", 0.75, "out"),),
    "alpha_right": (("E124", 0.75, "out"),),
    "theta": (("E11", 0.72, "out"), ("E6", 0.60, "out"), ("E16", 0.72, "out")),
    "beta": tuple((name, 0.80, "out") for name in ("E24", "E124", "E29", "E111", "E11")),
    "hand_left": (("E36", 0.82, "out"),),
    "hand_right": (("E104", 0.82, "out"),),
    "flicker": (("E75", 0.72, "out"),),
    "build_up": (("E62", 0.60, "out"),),
    "feedback": (("E62", 0.50, "out"),),
    "eye_left": (("E22", 0.97, "out"),),
    "eye_right": (("E9", 0.97, "out"),),
    "muscle": tuple((name, 0.96, "out") for name in ("E44", "E114", "E56", "E107", "E48", "E119")),
}
BRAIN_SHARE = 0.9  # innermost of the sphere's relative radii


@dataclass(frozen=True)
class Head:
    """Topographies of all sources.

    Attributes
    ----------
    names
        The 129 channel names, `Cz` last.
    topographies
        Component → (129, k) array, referred to Cz, each column's largest magnitude 1.
    background
        (129, n) array of the background dipoles, scaled together so that unit noise in all gives
        a root mean square of 1 at the average channel.
    """

    names: tuple[str, ...]
    topographies: dict[str, np.ndarray]
    background: np.ndarray


@lru_cache(maxsize=2)
def make_head(n_background: int) -> Head:
    """Compute the topographies once with MNE's spherical head model.

    Parameters
    ----------
    n_background
        Dipoles of the 1/f background, spread evenly over the part of the brain above the ears,
        with orientations between radial and tangential.
    """
    import mne

    montage = mne.channels.make_standard_montage(MONTAGE)
    info = mne.create_info(montage.ch_names, 100.0, "eeg", verbose="error").set_montage(montage)
    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    centre, radius = sphere["r0"], BRAIN_SHARE * sphere["layers"][-1]["rad"]
    at = {ch["ch_name"]: ch["loc"][:3] - centre for ch in info["chs"]}
    chosen = [place for places in PLACES.values() for place in places]
    outward = np.array([at[name] / np.linalg.norm(at[name]) for name, _, _ in chosen])
    depth = np.array([share for _, share, _ in chosen])
    spread, turned = _background_dipoles(n_background)
    rr = centre + radius * np.vstack([outward * depth[:, None], spread * 0.8])
    gain = _fixed_gain(info, sphere, rr, np.vstack([outward, turned]))
    gain = gain - gain[montage.ch_names.index(REFERENCE)]
    topographies, first = {}, 0
    for name, places in PLACES.items():
        part = gain[:, first : first + len(places)]
        topographies[name] = (part / np.abs(part).max(axis=0)).astype(np.float32)
        first += len(places)
    background = gain[:, first:]
    background = background / np.sqrt((background**2).sum(axis=1).mean())
    return Head(tuple(montage.ch_names), topographies, background.astype(np.float32))


def _fixed_gain(info: object, sphere: object, rr: np.ndarray, nn: np.ndarray) -> np.ndarray:
    import mne

    source = mne.setup_volume_source_space(pos={"rr": rr, "nn": nn}, verbose="error")
    forward = mne.make_forward_solution(
        info, None, source, sphere, meg=False, eeg=True, verbose="error"
    )
    free = forward["sol"]["data"].reshape(len(info["chs"]), len(rr), 3)  # type: ignore[index]
    return np.einsum("csk,sk->cs", free, nn)


def _background_dipoles(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return directions on a Fibonacci spiral (upper three quarters) and tilted orientations."""
    rng = np.random.default_rng(129)
    height = 1.0 - 1.5 * (np.arange(n) + 0.5) / n
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n)
    flat = np.sqrt(1.0 - height**2)
    spread = np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height])
    tilted = spread + 0.9 * rng.standard_normal((n, 3))
    return spread, tilted / np.linalg.norm(tilted, axis=1, keepdims=True)
