"""Spheres through electrodes, and directions from the centre of a head."""

from __future__ import annotations

import numpy as np

MIN_TO_FIT = 12
"""Least number of points that define a sphere by themselves."""

USUAL_RADIUS = 0.095
USUAL_CENTRES = np.array([[0.0, 0.01, 0.038], [0.0, 0.0, 0.0]])
"""Centre of a head in head coordinates, and in coordinates with their origin there, in metres."""


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere nearest to points (C, 3): |p|² = 2 p·c + (r² − |c|²)."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))


def head_radius(points: np.ndarray) -> float:
    """Approximate radius of the head that points (C, 3) lie on, in their unit."""
    distance = float(np.median(np.linalg.norm(points, axis=1)))
    if len(points) < MIN_TO_FIT or distance == 0:
        return distance
    centre, radius = fit_sphere(points / distance)
    misfit = np.linalg.norm(points / distance - centre, axis=1) - radius
    return radius * distance if misfit.std() < 0.1 * radius else distance


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(C,) degrees between unit vectors (C, 3)."""
    return np.degrees(np.arccos(np.clip((first * second).sum(axis=1), -1, 1)))


def to_unit_sphere(points: np.ndarray) -> np.ndarray:
    """Project measured points (C, 3) in metres to unit vectors around the centre of their head.

    The centre is that of the nearest sphere. A head is not a sphere, and the sphere of a few
    electrodes may lie centimetres beside the head's, which changes directions by 10°; so unless the
    points lie on a sphere to 2 mm, the centre is drawn towards its position in adults: 4 cm above
    and 1 cm in front of the ears, or the origin if the points are centred there.
    """
    directions = points - _head_centre(points)
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / np.where(norms > 0, norms, np.nan)


def _head_centre(points: np.ndarray) -> np.ndarray:
    """Centre as of `fit_sphere`, with the usual one as a prior (standard deviation 1 cm).

    The points' distance from the sphere has a standard deviation of 1.5 cm unless they fit better.
    """
    spread = [np.linalg.norm(points - centre, axis=1).std() for centre in USUAL_CENTRES]
    usual = USUAL_CENTRES[int(len(points) > 3 and spread[1] < spread[0] / 2)]
    design = np.column_stack([2 * points, np.ones(len(points))])
    squares = (points**2).sum(axis=1)
    misfit = design @ np.linalg.lstsq(design, squares, rcond=None)[0] - squares
    error = np.sqrt(((misfit / (2 * USUAL_RADIUS)) ** 2).sum() / max(len(points) - 4, 1))
    exact = len(points) >= MIN_TO_FIT and error < 0.002
    weight = 1 / (2 * USUAL_RADIUS * (max(error, 1e-4) if exact else 0.015))
    prior = np.column_stack([np.eye(3), np.zeros(3)]) / 0.01
    system = np.vstack([design * weight, prior])
    target = np.concatenate([squares * weight, usual / 0.01])
    return np.linalg.lstsq(system, target, rcond=None)[0][:3]
