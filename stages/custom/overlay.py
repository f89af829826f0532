"""A film at a readable size with its points, each in a circle that should hold the true one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stages.core.data import geometry
from stages.core.data.schema import LandmarkSchema

HEIGHT = 1080
LINE, POINT, WORDS, SHADOW = (80, 220, 255), (255, 160, 60), (255, 255, 255), (0, 0, 0)  # RGB
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


def write_overlay(
    path: Path, pixels: np.ndarray, points: np.ndarray, radii: np.ndarray, schema: LandmarkSchema
) -> None:
    """Write a PNG of the film (H, W) uint8 with `points` (K, 2), each in a circle of `radii` (K,); both in its px."""
    size = (HEIGHT, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
    canvas = np.repeat(geometry.resize(pixels, size)[:, :, None], 3, axis=2)
    placed = geometry.apply(geometry.resize_matrix((pixels.shape[0], pixels.shape[1]), size), points)
    for a, b in schema.edges:
        cv2.line(canvas, _fixed(placed[a]), _fixed(placed[b]), LINE, 1, cv2.LINE_AA, _SUBPIXEL)
    for name, point, radius in zip(schema.names, placed, radii * HEIGHT / pixels.shape[0], strict=True):
        cv2.circle(
            canvas, _fixed(point), round(float(radius) * 2**_SUBPIXEL), POINT, 1, cv2.LINE_AA, _SUBPIXEL
        )
        cv2.circle(canvas, _fixed(point), 3 << _SUBPIXEL, POINT, -1, cv2.LINE_AA, _SUBPIXEL)
        _write(canvas, name, (int(point[0]) + 8, int(point[1]) + 4), 0.42, POINT)
    _write(canvas, "research use only", (12, HEIGHT - 14), 0.5, WORDS)
    path.write_bytes(cv2.imencode(".png", canvas[:, :, ::-1])[1].tobytes())


def _write(
    canvas: np.ndarray, words: str, at: tuple[int, int], size: float, ink: tuple[int, int, int]
) -> None:
    """Words with a dark edge, which is the words again a pixel off."""
    for dx, dy, colour in ((-1, -1, SHADOW), (1, -1, SHADOW), (-1, 1, SHADOW), (1, 1, SHADOW), (0, 0, ink)):
        place = (at[0] + dx, at[1] + dy)
        cv2.putText(canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0]) * 2**_SUBPIXEL), round(float(point[1]) * 2**_SUBPIXEL)
