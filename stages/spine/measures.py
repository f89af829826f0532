"""What the spine lane measures on a film beyond the radial error. All points (N, 4 V, 2) in raw px."""

from __future__ import annotations

import numpy as np

from stages.spine.schema import CORNERS


def vertebra_heights(points: np.ndarray) -> np.ndarray:
    """(N,) mean over a film's vertebrae of the distance between the midpoints of the two endplates."""
    upper, lower = _vertebrae(points)[..., :2, :].mean(-2), _vertebrae(points)[..., 2:, :].mean(-2)
    return np.linalg.norm(lower - upper, axis=-1).mean(-1)


def spacings(points: np.ndarray) -> np.ndarray:
    """(N,) median vertical distance from one vertebra's centre to the next one's."""
    centres = _vertebrae(points)[..., 1].mean(-1)  # (N, V)
    return np.median(np.diff(centres, axis=1), axis=1)


def slips(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) by how many vertebrae the whole spine lies too low (+) or too high (-): mean dy over the spacing.

    Beyond one half the prediction fits the neighbouring vertebrae better than the right ones.
    """
    return (predicted[..., 1] - truth[..., 1]).mean(-1) / spacings(truth)


def _vertebrae(points: np.ndarray) -> np.ndarray:
    """(N, 4 V, 2) -> (N, V, 4, 2)."""
    points = np.asarray(points, np.float64)
    return points.reshape(len(points), -1, len(CORNERS), 2)
