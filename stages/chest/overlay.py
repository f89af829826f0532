"""A film with its predicted axis and lung contours drawn on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stages.chest.schema import CHEST
from stages.core.data import geometry

HEIGHT = 896
LINE, POINT, SHADOW = (80, 220, 255), (255, 160, 60), (0, 0, 0)  # RGB
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


def write_overlay(path: Path, pixels: np.ndarray, points: np.ndarray) -> None:
    """Write a PNG of the film (H, W) uint8 at a readable size, with `points` (15, 2) in px of the film."""
    size = (HEIGHT, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
    canvas = np.repeat(geometry.resize(pixels, size)[:, :, None], 3, axis=2)
    placed = geometry.apply(geometry.resize_matrix(pixels.shape, size), points)
    for a, b in CHEST.edges:
        cv2.line(canvas, _fixed(placed[a]), _fixed(placed[b]), LINE, 2, cv2.LINE_AA, _SUBPIXEL)
    for name, point in zip(CHEST.names, placed, strict=True):
        cv2.circle(canvas, _fixed(point), 5 << _SUBPIXEL, POINT, -1, cv2.LINE_AA, _SUBPIXEL)
        _text(canvas, name, (point[0] + 9, point[1] + 5), 0.55)
    _text(canvas, "research use only", (10, HEIGHT - 12), 0.55)
    path.write_bytes(cv2.imencode(".png", canvas[:, :, ::-1])[1].tobytes())


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = (round(float(v) * 2**_SUBPIXEL) for v in point)
    return x, y


def _text(canvas: np.ndarray, text: str, at: tuple[float, float], size: float) -> None:
    where = (int(at[0]), int(at[1]))
    for colour, width in ((SHADOW, 4), (LINE, 1)):
        cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
