"""Where electrodes are; without torch, as parameters are read without it."""

from __future__ import annotations

#: Directions of the 19 electrodes of the 10-20 system in head coordinates, from the centre of the
#: sphere fitted to MNE's template `standard_1005`: x to the right, y to the front, z up.
DIRECTIONS_10_20: dict[str, tuple[float, float, float]] = {
    "Fp1": (-0.285, 0.952, -0.110),
    "Fp2": (0.279, 0.954, -0.110),
    "F7": (-0.764, 0.628, -0.146),
    "F3": (-0.527, 0.745, 0.408),
    "Fz": (-0.002, 0.778, 0.628),
    "F4": (0.531, 0.751, 0.392),
    "F8": (0.763, 0.629, -0.150),
    "T7": (-0.995, 0.001, -0.096),
    "C3": (-0.709, 0.092, 0.699),
    "Cz": (-0.004, 0.126, 0.992),
    "C4": (0.715, 0.094, 0.693),
    "T8": (0.995, 0.005, -0.099),
    "P7": (-0.790, -0.613, 0.021),
    "P3": (-0.538, -0.588, 0.603),
    "Pz": (-0.007, -0.567, 0.824),
    "P4": (0.540, -0.585, 0.605),
    "P8": (0.784, -0.621, 0.020),
    "O1": (-0.302, -0.941, 0.152),
    "O2": (0.285, -0.946, 0.153),
}
