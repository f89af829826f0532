"""Which points are wrong: an error in px means little before it is held against the anatomy."""

from __future__ import annotations

import numpy as np

from stages.spine.checking.architecture import Threshold
from stages.spine.corruption import as_vertebrae

ROWS = 512
"""px; height of the frame in which `least_px512` counts"""


def limits_raw(threshold: Threshold, labels_raw: np.ndarray, heights_raw: np.ndarray) -> np.ndarray:
    """(N, K) distances in raw px beyond which a point is wrong.

    Args:
        labels_raw: (N, K, 2) in raw px.
        heights_raw: (N,) of the films, raw px.
    """
    corners = as_vertebrae(np.asarray(labels_raw, np.float64))  # (N, V, 4, 2)
    upper, lower = corners[..., :2, :].mean(-2), corners[..., 2:, :].mean(-2)
    local = np.linalg.norm(lower - upper, axis=-1).repeat(corners.shape[-2], -1)  # (N, K)
    least = threshold.least_px512 * np.asarray(heights_raw, np.float64) / ROWS
    return np.maximum(threshold.heights * local, least[:, None])
