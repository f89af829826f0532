"""A film at a readable size with its points, each in a circle: what the overlays of several lanes have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from stages.core.data import geometry

HEIGHT = 1080
LINE, POINT, WORDS, SHADOW = (80, 220, 255), (255, 160, 60), (255, 255, 255), (0, 0, 0)  # RGB
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


class Overlay:
    """A film (H, W) uint8 with points (K, 2) in its px, enlarged or reduced to `HEIGHT` px."""

    def __init__(self, pixels: np.ndarray, points: np.ndarray) -> None:
        size = (HEIGHT, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
        self._canvas = np.repeat(geometry.resize(pixels, size)[:, :, None], 3, axis=2)
        self._placed = geometry.apply(
            geometry.resize_matrix((pixels.shape[0], pixels.shape[1]), size), points
        )
        self._scale = HEIGHT / pixels.shape[0]

    def lines(self, edges: Iterable[tuple[int, int]], thickness: int = 1) -> None:
        """Lines between points by their indices."""
        for a, b in edges:
            ends = _fixed(self._placed[a]), _fixed(self._placed[b])
            cv2.line(self._canvas, *ends, LINE, thickness, cv2.LINE_AA, _SUBPIXEL)

    def circles(self, names: Sequence[str], radii: np.ndarray) -> None:
        """Every point with its name, in a circle of its radius (K,) in px of the film."""
        for name, point, radius in zip(names, self._placed, radii, strict=True):
            around = round(float(radius) * self._scale * 2**_SUBPIXEL)
            cv2.circle(self._canvas, _fixed(point), around, POINT, 1, cv2.LINE_AA, _SUBPIXEL)
            cv2.circle(self._canvas, _fixed(point), 3 << _SUBPIXEL, POINT, -1, cv2.LINE_AA, _SUBPIXEL)
            self.words(name, (int(point[0]) + 8, int(point[1]) + 4), 0.42, POINT)

    def words(self, words: str, at: tuple[int, int], size: float, ink: tuple[int, int, int] = WORDS) -> None:
        """Words with a dark edge, which is the words again a pixel off."""
        for dx, dy, colour in (
            (-1, -1, SHADOW),
            (1, -1, SHADOW),
            (-1, 1, SHADOW),
            (1, 1, SHADOW),
            (0, 0, ink),
        ):
            place = (at[0] + dx, at[1] + dy)
            cv2.putText(self._canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

    def write(self, path: Path) -> None:
        """Write the PNG, marked as research use only."""
        self.words("research use only", (12, HEIGHT - 14), 0.5)
        path.write_bytes(cv2.imencode(".png", self._canvas[:, :, ::-1])[1].tobytes())


def _fixed(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0]) * 2**_SUBPIXEL), round(float(point[1]) * 2**_SUBPIXEL)
