"""How many places a map points to: its second peak after suppression of what surrounds the first."""

from __future__ import annotations

import numpy as np

RADIUS_SIGMAS = 3.0
"""Two peaks nearer than this many deviations of the target are one."""
LEAST = 0.01
"""A peak lower than this share of a map's highest cell is noise."""


def second_peak_ratio(maps: np.ndarray, sigma_cells: float) -> np.ndarray:
    """(N, K, h, w) maps >= 0 -> (N, K) height of the second peak over that of the first, 0 where there is none.

    A peak is a cell, or a plateau of touching cells, that nothing within `RADIUS_SIGMAS` * `sigma_cells` along
    either axis exceeds. The flank of a peak is therefore none, however broad it is, which the second largest
    value of a map always is.
    """
    import cv2
    from scipy import ndimage

    height, width = maps.shape[-2:]
    flat = np.ascontiguousarray(maps, np.float32).reshape(-1, height, width)
    radius = max(1, round(RADIUS_SIGMAS * sigma_cells))
    highest = flat.max((1, 2), keepdims=True)
    # Floats that differ by rounding are a plateau too.
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    surrounding = np.stack([cv2.dilate(one, around) for one in flat])
    summits = (flat >= surrounding * (1 - 1e-6)) & (flat >= LEAST * highest) & (highest > 0)
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True
    labels, count = ndimage.label(summits, touching)
    which, rows, columns = np.nonzero(labels)
    peak = labels[which, rows, columns] - 1
    owner, top = np.zeros(count, np.int64), np.zeros(count)
    owner[peak] = which
    np.maximum.at(top, peak, flat[which, rows, columns])
    y, x = (np.bincount(peak, at, count) / np.bincount(peak, minlength=count) for at in (rows, columns))

    ratio = np.zeros(len(flat))
    for index in range(len(flat)):
        own = np.flatnonzero(owner == index) if count else np.empty(0, np.int64)
        if len(own) > 1:
            first = own[top[own].argmax()]
            # A plateau that a ridge of rounding cuts in two stays one peak.
            apart = np.maximum(np.abs(y[own] - y[first]), np.abs(x[own] - x[first])) > radius
            if apart.any():
                ratio[index] = top[own][apart].max() / top[first]
    return ratio.reshape(maps.shape[:2])
