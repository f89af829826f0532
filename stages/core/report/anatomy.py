"""Drawings of points on the body: films with truth and prediction, stick figures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.report.markup import Child, Markup, tag
from stages.core.report.svg import box, circle, curve, drawing, group, legend, segment, words

Edges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """The part of a data frame that a drawing shows, at the same scale along x and y.

    Attributes:
        low: (x, y) of the data at the drawing's (left, top).
        scale: drawing pixels a data unit.
    """

    low: np.ndarray
    scale: float
    left: float = 0.0
    top: float = 0.0

    def place(self, points: np.ndarray) -> np.ndarray:
        """Data points (..., 2) in the drawing."""
        return (np.asarray(points, float) - self.low) * self.scale + (self.left, self.top)


def around(points: np.ndarray, margin: float, height: float, side: float = 0) -> tuple[Window, float]:
    """The window around all finite `points` (..., 2) in a drawing of the given height.

    Args:
        margin: room on every side, in data units.
        side: more room on the left and on the right, in drawing pixels.
    Returns:
        window and width of the drawing.
    """
    flat = np.asarray(points, float).reshape(-1, 2)
    flat = flat[np.isfinite(flat).all(1)]
    if not len(flat):
        flat = np.zeros((1, 2))
    low, high = flat.min(0) - margin, flat.max(0) + margin
    extent = np.maximum(high - low, 1e-6)
    scale = height / float(extent[1])
    return Window(low, scale, left=side), float(extent[0] * scale + 2 * side)


def chains(points: np.ndarray, edges: Edges, style: str) -> Markup | None:
    """The edges between `points` (K, 2), already in the drawing; edges without an end are left out."""
    broken = np.full(2, np.nan)
    stops = [stop for a, b in edges for stop in (points[a], points[b], broken)]
    return curve(np.array(stops), style) if stops else None


def scale_bar(window: Window, x: float, y: float, length: float, unit: str) -> Markup:
    """A bar `length` data units long from (x, y) of the drawing, with its length above its end."""
    end = x + length * window.scale
    return group(segment(x, y, end, y, "whisker"), words(end, y - 6, f"{length:g} {unit}", "end"))


def round_length(extent: float) -> float:
    """A round length near a fifth of `extent`, for a scale bar."""
    power = 10.0 ** math.floor(math.log10(extent / 5))
    return max(m * power for m in (1, 2, 5) if m * power <= extent / 5)


def film_jpeg(image: np.ndarray, quality: int) -> str:
    """A film (H, W) uint8 as a data URI."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Marks:
    """One set of points on a film.

    Attributes:
        points: (K, 2) raw px.
        style: of page.css.
        dots: points to draw as dots even where no point is named.
    """

    name: str
    points: np.ndarray
    style: str
    dots: tuple[int, ...] = ()


def film(
    picture: str | None,
    size_raw: tuple[int, int],
    marks: Sequence[Marks],
    names: Sequence[str],
    edges: Edges,
    label: str,
    height: float,
) -> Markup:
    """A film, or white where `picture` is None, with sets of points on it.

    Args:
        picture: data URI of the film, stretched to any size; it is shown with the proportions of `size_raw`.
        size_raw: width and height of the raw film, which the points refer to (pixel centres are integers).
        names: names of the points; they are drawn, and those of the first two sets tied, only where given.
        edges: lines between the points of each set.
    """
    window = Window(np.array([-0.5, -0.5]), height / size_raw[1])
    width = size_raw[0] * window.scale
    drawn: list[Child] = [box(0, 0, width, height, "sheet")]
    if picture is not None:
        drawn.append(
            tag("image", href=picture, width=float(width), height=float(height), preserveAspectRatio="none")
        )
    placed = [window.place(m.points) for m in marks]
    if names and len(placed) > 1:
        drawn.append(
            chains(np.concatenate(placed[:2]), [(k, k + len(names)) for k in range(len(names))], "link")
        )
    for m, points in zip(marks, placed, strict=True):
        drawn.append(chains(points, edges, f"curve {m.style}"))
        for k in range(len(names)) if names else m.dots:
            x, y = points[k]
            if math.isfinite(x) and math.isfinite(y):
                tip = f"{names[k]} ({m.name})" if names else None
                drawn.append(circle(x, y, 2.4, f"dot {m.style}", tip))
    return drawing(width, height, label, group(*drawn, style="plain" if picture is None else "film"))


def mark_legend(marks: Sequence[tuple[str, str]], style: str, width: float = 520) -> Markup:
    """What the colours on films mean; `style` is `film` or `plain`, which differ in colours."""
    key, height = legend(marks, 0, width)
    return drawing(width, height, "Legend", group(key, style=style))


def stick_figures(
    poses: Mapping[str, tuple[str, np.ndarray]], edges: Edges, label: str, height: float, margin: float = 8.0
) -> Markup:
    """Poses from the front (as the camera sees them) and from the side, at the same scale.

    Args:
        poses: name -> (style, (K, 3) cm in the camera's frame: x right, y down, z away from the camera).
        margin: room around the figures, cm.
    """
    every = np.concatenate([pose for _, pose in poses.values()])
    low = np.nanmin(every, axis=0) - margin
    extent = np.nanmax(every, axis=0) + margin - low
    scale = (height - 22) / extent[1]
    front, side = extent[0] * scale, extent[2] * scale
    gap = 14.0
    width = front + gap + side
    drawn: list[Child] = [
        box(0, 22, front, height - 22, "sheet"),
        box(front + gap, 22, side, height - 22, "sheet"),
    ]
    drawn.append(words(front / 2, 14, "front", "middle", "name"))
    drawn.append(words(front + gap + side / 2, 14, "side: depth →", "middle", "name"))
    for axes, left in (((0, 1), 0.0), ((2, 1), front + gap)):
        window = Window(low[list(axes)], scale, left, 22)
        for style, pose in poses.values():
            drawn.append(chains(window.place(pose[:, axes]), edges, f"curve {style}"))
    return drawing(width, height, label, group(*drawn, style="plain"))
