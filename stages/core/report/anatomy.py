"""Drawings of points on the body: errors over a mean shape, films with truth and prediction, people."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.report.evidence import finite_mean
from stages.core.report.markup import Child, Markup, tag
from stages.core.report.svg import box, circle, curve, drawing, ellipse, group, legend, segment, words
from stages.core.report.wording import figure

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


def spread_of(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2, 2) of residuals (n, 2); rows that are not finite are left out."""
    kept = residuals[np.isfinite(residuals).all(1)].astype(float)
    if not len(kept):
        return np.full(2, np.nan), np.full((2, 2), np.nan)
    bias = kept.mean(0)
    return bias, (kept - bias).T @ (kept - bias) / len(kept)


@dataclass(frozen=True)
class Spot:
    """What an error map says of a place: an ellipse about (x, y), and words beside it.

    Attributes:
        points: landmarks whose errors it stands for; it is drawn at their middle.
        named: write its name and mean error beside it.
    """

    name: str
    points: tuple[int, ...]
    named: bool = True


def error_map(
    shape: np.ndarray,
    residuals: np.ndarray,
    names: Sequence[str],
    edges: Edges,
    spots: Sequence[Spot],
    unit: str,
    label: str,
    height: float,
) -> Markup:
    """Where the error lies on a mean shape.

    Each landmark is a dot in one of five shades by its mean error. Each spot has the ellipse of one standard
    deviation about its mean place, tied to its true place by a line, the bias.

    Args:
        shape: (K, 2) mean shape in the unit of the residuals.
        residuals: (n, K, 2) prediction minus truth; NaN where either is missing.
    """
    errors = finite_mean(np.linalg.norm(residuals, axis=-1))
    limits = shade_limits(errors)
    margin = 0.05 * float(np.nanmax(shape[:, 1]) - np.nanmin(shape[:, 1]))
    window, width = around(shape, margin, height, side=90)
    placed = window.place(shape)
    drawn: list[Child] = [chains(placed, edges, "curve skeleton")]
    for spot in spots:
        drawn += _spot(spot, placed, residuals, window, errors, unit, width)
    for k, (x, y) in enumerate(placed):
        if math.isfinite(errors[k]):
            tip = f"{names[k]}: mean error {figure(errors[k])} {unit}"
            drawn.append(circle(x, y, 3.4, f"shade{int(np.searchsorted(limits, errors[k]))}", tip))
    length = round_length(height / window.scale)
    bar = scale_bar(window, width - length * window.scale, height + 26, length, unit)
    key = _shade_key(limits, height + 8)
    return drawing(
        width, height + 30, label, box(0, 0, width, height, "sheet"), group(*drawn, key, bar, style="chart")
    )


def shade_limits(errors: np.ndarray) -> np.ndarray:
    """Four limits between five shades that divide the finite errors evenly from least to greatest."""
    finite = errors[np.isfinite(errors)]
    return np.linspace(finite.min(), finite.max(), 6)[1:-1] if finite.size else np.zeros(4)


def _spot(
    spot: Spot,
    placed: np.ndarray,
    residuals: np.ndarray,
    window: Window,
    errors: np.ndarray,
    unit: str,
    width: float,
) -> list[Markup]:
    chosen = list(spot.points)
    bias, spread = spread_of(finite_mean(residuals[:, chosen], axis=1))
    if not np.isfinite(spread).all():
        return []
    x, y = placed[chosen].mean(0)
    mean = float(finite_mean(errors[chosen]))
    tip = (
        f"{spot.name}: mean error {figure(mean)} {unit}, "
        f"bias {figure(bias[0], True)} to the right, {figure(bias[1], True)} down"
    )
    at = np.array([x, y]) + bias * window.scale
    drawn = [
        ellipse(at[0], at[1], spread * window.scale**2, "error", tip),
        segment(x, y, at[0], at[1], "bias"),
    ]
    if spot.named:
        reach = placed[chosen, 0]
        left = reach.mean() < width / 2 if len(chosen) == 1 else False
        edge = reach.min() - 12 if left else reach.max() + 12
        drawn.append(words(edge, y + 4, f"{spot.name}  {figure(mean)}", "end" if left else None))
    return drawn


def _shade_key(limits: np.ndarray, y: float) -> Markup:
    """The five shades with the limits between them."""
    drawn: list[Markup] = []
    for k in range(len(limits) + 1):
        drawn.append(box(44.0 * k, y, 44, 9, f"shade{k}"))
        if k:
            drawn.append(words(44.0 * k, y + 21, figure(float(limits[k - 1])), "middle"))
    return group(*drawn)


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


def error_discs(
    shape: np.ndarray,
    radii: Sequence[tuple[str, str, np.ndarray]],
    names: Sequence[str],
    edges: Edges,
    unit: str,
    label: str,
    height: float,
) -> Markup:
    """Mean errors as discs to scale about the points of a mean shape, one size for each of several methods.

    Args:
        shape: (K, 2) in the unit of the radii, y downwards.
        radii: (name, style, (K,) mean errors); draw the largest first.
    """
    reach = max(float(np.nanmax(r)) for _, _, r in radii)
    window, width = around(shape, margin=1.1 * reach, height=height - 26)
    window = Window(window.low, window.scale, top=26)
    key, _ = legend([(name, style) for name, style, _ in radii], 0, max(width, 320), "dot")
    placed = window.place(shape)
    drawn: list[Child] = [key, box(0, 26, width, height - 26, "sheet")]
    for name, style, errors in radii:
        for joint, (x, y), error in zip(names, placed, errors, strict=True):
            if math.isfinite(x + y + error):
                drawn.append(
                    circle(
                        x,
                        y,
                        error * window.scale,
                        f"disc {style}",
                        f"{joint}, {name}: {figure(error)} {unit}",
                    )
                )
    drawn.append(chains(placed, edges, "curve skeleton"))
    length = round_length(height / window.scale)
    drawn.append(scale_bar(window, width - 8 - length * window.scale, height - 8, length, unit))
    return drawing(max(width, 320), height, label, group(*drawn, style="chart"))


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
