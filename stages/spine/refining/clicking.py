"""The oracle's click on arrays: the label of the worst point becomes a hint."""

from __future__ import annotations

import numpy as np


def click_worst(hints: np.ndarray, predicted: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Hints with the worst point of each film added that has none.

    Args:
        hints: (N, K, 2) model px, NaN where there is none.
        predicted, truth: (N, K, 2) model px; a point without a label (NaN) is never clicked.
        scale: (N, 1, 2) raw px a model px: errors are compared in raw px.
    """
    error = np.linalg.norm((predicted - truth) * scale, axis=-1)
    error = np.where(np.isfinite(error) & ~np.isfinite(hints).all(-1), error, -1.0)
    worst = error.argmax(1)
    rows = np.flatnonzero(error[np.arange(len(error)), worst] >= 0)
    added = np.array(hints, np.float64)
    added[rows, worst[rows]] = truth[rows, worst[rows]]
    return added
