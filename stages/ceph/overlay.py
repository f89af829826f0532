"""A lateral film at a readable size with its points, each in a circle of its expected error, and the angles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from stages.ceph.schema import CEPH, INDEX
from stages.core.data import geometry

HEIGHT = 1080
LINE, POINT, WORDS, SHADOW = (80, 220, 255), (255, 160, 60), (255, 255, 255), (0, 0, 0)  # RGB
CEPHALOMETRIC_LINES = (("sella", "nasion"), ("nasion", "subspinale"), ("nasion", "supramentale"))
"""The legs of SNA and SNB, drawn thicker than the outline."""
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


def write_overlay(
    path: Path, pixels: np.ndarray, points: np.ndarray, radii: np.ndarray, angles_deg: Mapping[str, float]
) -> None:
    """Write a PNG of the film (H, W) uint8 with `points` (19, 2), each in a circle of `radii` (19,); both in its px."""
    size = (HEIGHT, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
    canvas = np.repeat(geometry.resize(pixels, size)[:, :, None], 3, axis=2)
    placed = geometry.apply(geometry.resize_matrix((pixels.shape[0], pixels.shape[1]), size), points)
    scale = HEIGHT / pixels.shape[0]
    for a, b in CEPH.edges:
        cv2.line(canvas, _fixed(placed[a]), _fixed(placed[b]), LINE, 1, cv2.LINE_AA, _SUBPIXEL)
    for a_name, b_name in CEPHALOMETRIC_LINES:
        ends = _fixed(placed[INDEX[a_name]]), _fixed(placed[INDEX[b_name]])
        cv2.line(canvas, *ends, LINE, 2, cv2.LINE_AA, _SUBPIXEL)
    for name, point, radius in zip(CEPH.names, placed, radii, strict=True):
        around = round(float(radius) * scale * 2**_SUBPIXEL)
        cv2.circle(canvas, _fixed(point), around, POINT, 1, cv2.LINE_AA, _SUBPIXEL)
        cv2.circle(canvas, _fixed(point), 3 << _SUBPIXEL, POINT, -1, cv2.LINE_AA, _SUBPIXEL)
        _write(canvas, name.replace("_", " "), (int(point[0]) + 8, int(point[1]) + 4), 0.42, POINT)
    said = "  ".join(f"{name} {value:.1f}" for name, value in angles_deg.items())
    _write(canvas, f"{said} degrees", (12, 28), 0.6, WORDS)
    _write(canvas, "circles: expected error", (12, 52), 0.5, WORDS)
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
