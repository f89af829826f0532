"""Where errors lie: ellipses, shades and discs on a mean shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.report.anatomy import Edges, Window, around, chains, round_length, scale_bar
from stages.core.report.evidence import finite_mean
from stages.core.report.markup import Child, Markup
from stages.core.report.svg import box, circle, drawing, ellipse, group, legend, segment, words
from stages.core.report.wording import figure


@dataclass(frozen=True)
class Spot:
    """What an error map says of a place: an ellipse, and beside it the name and the mean error.

    Attributes:
        points: landmarks that it stands for; it is drawn at their middle.
    """

    name: str
    points: tuple[int, ...]


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
    x, y = finite_mean(placed[chosen])
    mean = float(finite_mean(errors[chosen]))
    tip = (
        f"{spot.name}: mean error {figure(mean)} {unit}, "
        f"bias {figure(bias[0], True)} to the right, {figure(bias[1], True)} down"
    )
    at = np.array([x, y]) + bias * window.scale
    left = len(chosen) == 1 and x < width / 2
    edge = np.nanmin(placed[chosen, 0]) - 12 if left else np.nanmax(placed[chosen, 0]) + 12
    return [
        ellipse(at[0], at[1], spread * window.scale**2, "error", tip),
        segment(x, y, at[0], at[1], "bias"),
        words(edge, y + 4, f"{spot.name}  {figure(mean)}", "end" if left else None),
    ]


def _shade_key(limits: np.ndarray, y: float) -> Markup:
    """The five shades with the limits between them."""
    drawn: list[Markup] = []
    for k in range(len(limits) + 1):
        drawn.append(box(44.0 * k, y, 44, 9, f"shade{k}"))
        if k:
            drawn.append(words(44.0 * k, y + 21, figure(float(limits[k - 1])), "middle"))
    return group(*drawn)


def spread_of(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2, 2) of residuals (n, 2); rows that are not finite are left out."""
    kept = residuals[np.isfinite(residuals).all(1)].astype(float)
    if not len(kept):
        return np.full(2, np.nan), np.full((2, 2), np.nan)
    bias = kept.mean(0)
    return bias, (kept - bias).T @ (kept - bias) / len(kept)


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
