"""The usual shape of a lane's landmarks: what stands in for a missing point, and what an error is a percentage of."""

from __future__ import annotations

import numpy as np


def mean_shape(points: np.ndarray, rounds: int = 30) -> np.ndarray:
    """(K, 2) mean of shapes (N, K, 2) that are laid on each other by shift and size; missing points are NaN.

    Its centre is 0 and its points' root mean square distance from it 1; a landmark that nobody has is NaN.
    """
    shape = _centred(np.nanmean([_centred(p) for p in points], 0)) if len(points) else points.reshape(0, 2)
    for _ in range(rounds):
        laid = []
        for film in points:
            scale, shift = _fit(shape, film)
            laid.append((film - shift) / scale)
        with np.errstate(all="ignore"):
            known = np.isfinite(laid).sum(0)
            shape = _centred(np.where(known > 0, np.nansum(laid, 0) / np.maximum(known, 1), np.nan))
    return shape


def completed(points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Shapes (N, K, 2) whose missing points are those of `shape` (K, 2), laid on the points that are there."""
    whole = np.array(points, np.float64)
    for film in whole:
        scale, shift = _fit(shape, film)
        lost = ~np.isfinite(film).all(1)
        film[lost] = scale * shape[lost] + shift
    return whole


def extents(points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """(N,) diagonals of the boxes about shapes (N, K, 2), in their px: what 100 % is. Missing points are filled in."""
    whole = completed(points, shape)
    return np.hypot(*np.moveaxis(whole.max(1) - whole.min(1), 1, 0))


def _fit(shape: np.ndarray, film: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and shift (2,) that lay `shape` (K, 2) on the points of `film` (K, 2) that both have."""
    both = np.isfinite(film).all(1) & np.isfinite(shape).all(1)
    ours, theirs = shape[both], film[both]
    a, b = ours - ours.mean(0), theirs - theirs.mean(0)
    scale = float((a * b).sum() / max((a * a).sum(), 1e-12))
    return scale, theirs.mean(0) - scale * ours.mean(0)


def _centred(points: np.ndarray) -> np.ndarray:
    moved = points - np.nanmean(points, 0)
    return moved / np.sqrt(np.nanmean((moved**2).sum(1)))
