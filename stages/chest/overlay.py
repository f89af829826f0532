"""A film enlarged to a readable size with points drawn on it: one prediction, or a prediction beside its label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.chest.schema import CHEST
from stages.core.data import geometry

HEIGHT = 896
LINE, POINT, SHADOW = (80, 220, 255), (255, 160, 60), (0, 0, 0)  # RGB
TRUTH, PREDICTION, RESIDUAL, WORDS = (60, 220, 80), (255, 70, 60), (255, 235, 80), (255, 255, 255)
_SUBPIXEL = 4
"""binary digits behind the point of OpenCV's drawing coordinates"""


@dataclass
class Canvas:
    """An enlarged film that is drawn on in pixels of the film itself.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        to_canvas: (2, 3) from px of the film to those of the canvas.
        scale: mean number of canvas px in one px of the film.
    """

    pixels: np.ndarray
    to_canvas: np.ndarray
    scale: float

    @classmethod
    def of(cls, film: np.ndarray, height: int, frame: geometry.Size | None = None, header: int = 0) -> Canvas:
        """Enlarge a film (H, W) uint8.

        Args:
            height: of the film on the canvas, px.
            frame: (height, width) of the film that points are given on, where `film` is a stretched copy.
            header: height of an empty strip above it, px.
        """
        frame = frame or (film.shape[0], film.shape[1])
        size = (height, max(1, round(frame[1] * height / frame[0])))
        grown = np.repeat(geometry.resize(film, size)[:, :, None], 3, axis=2)
        strip = np.zeros((header, size[1], 3), np.uint8)
        matrix = geometry.resize_matrix(frame, size)
        matrix[1, 2] += header
        return cls(np.concatenate([strip, grown]), matrix, height / frame[0])

    def line(self, start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int], thick: int) -> None:
        cv2.line(self.pixels, self._fixed(start), self._fixed(end), colour, thick, cv2.LINE_AA, _SUBPIXEL)

    def dot(self, at: np.ndarray, radius: int, colour: tuple[int, int, int]) -> None:
        """A filled circle of `radius` canvas px."""
        cv2.circle(self.pixels, self._fixed(at), radius << _SUBPIXEL, colour, -1, cv2.LINE_AA, _SUBPIXEL)

    def ring(self, at: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
        """A thin circle of `radius` px of the film."""
        size = round(radius * self.scale * 2**_SUBPIXEL)
        cv2.circle(self.pixels, self._fixed(at), size, colour, 1, cv2.LINE_AA, _SUBPIXEL)

    def cross(self, at: np.ndarray, reach: float, colour: tuple[int, int, int]) -> None:
        """An x whose arms reach `reach` canvas px sideways and up."""
        arm = reach / self.scale
        for turn in (1.0, -1.0):
            offset = np.array([arm, turn * arm])
            self.line(at - offset, at + offset, colour, 2)

    def text(self, words: str, at: np.ndarray, size: float, shift: tuple[int, int] = (0, 0)) -> None:
        """Words that begin at a point of the film, `shift` canvas px away from it."""
        x, y = geometry.apply(self.to_canvas, at)
        write(self.pixels, words, (int(x + shift[0]), int(y + shift[1])), size, LINE)

    def png(self) -> bytes:
        return cv2.imencode(".png", self.pixels[:, :, ::-1])[1].tobytes()

    def _fixed(self, point: np.ndarray) -> tuple[int, int]:
        x, y = (round(float(v) * 2**_SUBPIXEL) for v in geometry.apply(self.to_canvas, point))
        return x, y


def write(
    canvas: np.ndarray, words: str, at: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> None:
    """Words with a dark edge, at canvas px.

    The edge is the words again, a pixel off: OpenCV sets thicker letters further apart.
    """
    for dx, dy, ink in ((-1, -1, SHADOW), (1, -1, SHADOW), (-1, 1, SHADOW), (1, 1, SHADOW), (0, 0, colour)):
        place = (at[0] + dx, at[1] + dy)
        cv2.putText(canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def write_overlay(path: Path, pixels: np.ndarray, points: np.ndarray, radii: np.ndarray) -> None:
    """Write a PNG of the film (H, W) uint8 with `points` (15, 2), each in a thin circle of `radii` (15,).

    Both are in px of the film.
    """
    canvas = Canvas.of(pixels, HEIGHT)
    for a, b in CHEST.edges:
        canvas.line(points[a], points[b], LINE, 2)
    for name, point, radius in zip(CHEST.names, points, radii, strict=True):
        canvas.ring(point, radius, POINT)
        canvas.dot(point, 5, POINT)
        canvas.text(name, point, 0.55, shift=(9, 5))
    write(canvas.pixels, "research use only", (10, HEIGHT - 12), 0.55, LINE)
    path.write_bytes(canvas.png())


def comparison(
    film: np.ndarray, frame: geometry.Size, title: str, labels: np.ndarray, points: np.ndarray, height: int
) -> bytes:
    """A PNG of the film (h, w) uint8: labels (15, 2) as green circles, points as red crosses, a thin line
    between the two, and a title above.

    Args:
        frame: (height, width) of the film that labels and points are given on.
        height: of the film on the picture, px.
    """
    header = 34
    canvas = Canvas.of(film, height, frame, header)
    for label, point in zip(labels, points, strict=True):
        canvas.line(label, point, RESIDUAL, 1)
        canvas.ring(label, 6 / canvas.scale, TRUTH)
        canvas.cross(point, 5, PREDICTION)
    write(canvas.pixels, title, (8, 23), 0.5, WORDS)
    return canvas.png()
