"""The fourteen degrees of freedom behind the fifteen chest points, and the grid that they were clicked on.

    L12 . L1 . L13      t = 0        L1 -> L2 is the axis; L9, L10 and L11 lie at its quarters. The other
     L3 . L9 . L4       t = 1/4      ten points are where the perpendicular to the axis meets the outer
     L5 . L10 . L6      t = 1/2      contour of the lungs, "left" being the side of smaller x. So a shape
     L7 . L11 . L8      t = 3/4      is the axis (4 numbers) and ten offsets from it.
    L14 . L2 . L15      t = 1

All coordinates are (x, y) in any one isotropic frame; lengths are in pixels of that frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.chest.schema import AXIS_QUARTERS, BOTTOM, LEFT, LEVELS, RIGHT, TOP

GRID_CELLS = 64
"""The labels were clicked on 64 x 64 thumbnails and stretched to the film's size afterwards."""

Array = NDArray[np.float64]


def axis_frame(points: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """Top (N, 2), unit vector down the axis (N, 2), unit vector to the right of it (N, 2), length (N,)."""
    points = np.asarray(points, np.float64)
    top, axis = points[:, TOP], points[:, BOTTOM] - points[:, TOP]
    length = np.linalg.norm(axis, axis=1)
    down = axis / np.maximum(length, np.finfo(float).tiny)[:, None]
    return top, down, np.stack([down[:, 1], -down[:, 0]], axis=1), length


def shape_from_structure(top: ArrayLike, bottom: ArrayLike, left: ArrayLike, right: ArrayLike) -> Array:
    """Build the points from axis ends (N, 2) and offsets (N, 5) >= 0 by level: (N, 15, 2)."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    points = np.empty((len(top), 15, 2))
    points[:, TOP], points[:, BOTTOM] = top, bottom
    _, _, rightward, _ = axis_frame(points)
    for place, (level, on_left, on_right) in enumerate(zip(LEVELS, LEFT, RIGHT, strict=True)):
        foot = top + level * (bottom - top)
        points[:, on_left] = foot - np.asarray(left)[:, place, None] * rightward
        points[:, on_right] = foot + np.asarray(right)[:, place, None] * rightward
    for level, quarter in zip(LEVELS[1:4], AXIS_QUARTERS, strict=True):
        points[:, quarter] = top + level * (bottom - top)
    return points  # (N, 15, 2)


def structure_from_shape(points: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """Axis ends (N, 2) and (N, 2), offsets to the left and right (N, 5): the inverse of the above.

    The three axis points and the positions along the axis are not used; `structure_residuals` says how far
    they are from what these numbers imply. An offset is negative where a point is on the wrong side.
    """
    points = np.asarray(points, np.float64)
    top, down, rightward, length = axis_frame(points)
    feet = top[:, None] + np.asarray(LEVELS)[:, None] * (down * length[:, None])[:, None]
    left = np.einsum("nkc,nc->nk", feet - points[:, LEFT], rightward)
    right = np.einsum("nkc,nc->nk", points[:, RIGHT] - feet, rightward)
    return points[:, TOP], points[:, BOTTOM], left, right


def structure_residuals(points: ArrayLike) -> tuple[Array, Array]:
    """How far points are from the structure that they should have, in pixels of their own frame.

    Returns:
        quarters: (N, 3) distance of L9, L10, L11 from their quarter of the axis.
        along: (N, 10) distance of each contour point from its perpendicular, in the order LEFT + RIGHT.
    """
    points = np.asarray(points, np.float64)
    ideal = shape_from_structure(*structure_from_shape(points))
    distance = np.linalg.norm(points - ideal, axis=2)
    return distance[:, AXIS_QUARTERS], distance[:, LEFT + RIGHT]


def grid_values(size: int) -> NDArray[np.int64]:
    """The coordinates (64,) that a label may have on a film of `size` px: multiples of size / 64, rounded."""
    return np.rint(np.arange(GRID_CELLS) * size / GRID_CELLS).astype(np.int64)


def snap_to_grid(points: ArrayLike, size: int) -> NDArray[np.int64]:
    """The grid coordinates (..., 2) nearest to points on a film of `size` pixels; outside, the border's."""
    cells = np.rint(np.asarray(points, np.float64) * GRID_CELLS / size)
    return grid_values(size)[np.clip(cells, 0, GRID_CELLS - 1).astype(np.int64)]
