"""Affine maps between pixel frames. The only place that knows about half pixels.

A pixel's centre has integer coordinates: the first pixel of a row is at x = 0 and covers [-0.5, 0.5).

        0     1     2          a row of three pixels resized to six:
    |-----|-----|-----|        the outer edges (-0.5 and 2.5) stay edges (-0.5 and 5.5),
    -0.5  0.5   1.5   2.5      so x_six = (x_three + 0.5) * 2 - 0.5

All matrices are (2, 3) float64 and act on column vectors (x, y, 1). All sizes are (height, width).
"""

from __future__ import annotations

import numpy as np

Size = tuple[int, int]


def resize_matrix(source: Size, target: Size) -> np.ndarray:
    """(2, 3) map from pixel coordinates of a picture to those of the same picture resized (stretched)."""
    scale_y, scale_x = target[0] / source[0], target[1] / source[1]
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5]])


def mirror_matrix(width: int) -> np.ndarray:
    """(2, 3) map of a left-right mirror of a picture `width` pixels wide. The point order does not change."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def similarity_matrix(
    size: Size, degrees: float, scale: float, shift_x: float = 0.0, shift_y: float = 0.0
) -> np.ndarray:
    """(2, 3) rotation (positive: clockwise on the screen) and scale about the centre, then shift in px."""
    angle = np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = centre - linear @ centre + np.array([shift_x, shift_y])
    return np.column_stack([linear, offset])


def compose(*matrices: np.ndarray) -> np.ndarray:
    """One (2, 3) matrix that acts like the given ones from left to right: the first is applied first."""
    total = np.eye(3)
    for matrix in matrices:
        total = np.vstack([matrix, [0.0, 0.0, 1.0]]) @ total
    return total[:2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) affine map."""
    return np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (..., 2) in (x, y); float64 result of the same shape; NaN stays NaN."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp(image: np.ndarray, matrix: np.ndarray, size: Size, fill: int = 0) -> np.ndarray:
    """Resample a picture (H, W) or (H, W, C) with the map of its points; bilinear, constant border.

    Reducing resizes should use `resize`, which averages instead of sampling.
    """
    import cv2

    return cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=fill)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Stretch a picture to (height, width): area average where it shrinks, bilinear where it grows."""
    import cv2

    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(
        image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
