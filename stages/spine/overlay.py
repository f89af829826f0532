"""A film with its predicted vertebrae drawn on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stages.core.data import geometry
from stages.spine.cobb import end_vertebrae
from stages.spine.schema import LEVELS, SCHEMA

HEIGHT = 1280
OUTLINE, END, SHADOW = (80, 220, 255), (255, 160, 60), (0, 0, 0)  # RGB
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


def write_overlay(path: Path, pixels: np.ndarray, points: np.ndarray, major_degrees: float) -> None:
    """Write a PNG of the film (H, W) uint8 at a readable size.

    Drawn are the outlines of the vertebrae at `points` (K, 2) in px of the film, the two end vertebrae of the
    major curve in another colour with their endplates prolonged, names, and the major Cobb angle.
    """
    size = (HEIGHT, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
    canvas = np.repeat(geometry.resize(pixels, size)[:, :, None], 3, axis=2)
    placed = geometry.apply(geometry.resize_matrix(pixels.shape, size), points)
    upper, lower = (int(i) for i in end_vertebrae(points))
    for a, b in SCHEMA.edges:
        colour = END if a // 4 in (upper, lower) else OUTLINE
        _line(canvas, placed[a], placed[b], colour)
    for level, (left, right) in ((upper, (0, 1)), (lower, (2, 3))):
        start, end = placed[4 * level + left], placed[4 * level + right]
        _line(canvas, start - (end - start), end + (end - start), END)
    for level, name in enumerate(LEVELS):
        right = placed[4 * level : 4 * level + 4].max(0)[0]
        middle = placed[4 * level : 4 * level + 4].mean(0)[1]
        _text(canvas, name, (right + 8, middle + 5), 0.5)
    _text(canvas, f"Cobb {major_degrees:.1f} deg, {LEVELS[upper]}-{LEVELS[lower]}", (10, 26), 0.7)
    _text(canvas, "research use only", (10, HEIGHT - 12), 0.5)
    encoded = cv2.imencode(".png", canvas[:, :, ::-1])[1]
    path.write_bytes(encoded.tobytes())


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int]) -> None:
    a, b = (tuple(round(float(v) * 2**_SUBPIXEL) for v in p) for p in (start, end))
    cv2.line(canvas, a, b, colour, 2, cv2.LINE_AA, _SUBPIXEL)


def _text(canvas: np.ndarray, text: str, at: tuple[float, float], size: float) -> None:
    where = (int(at[0]), int(at[1]))
    for colour, width in ((SHADOW, 4), (OUTLINE, 1)):
        cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
