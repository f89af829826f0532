"""SVG inside a page: it follows light or dark colours, prints sharply, and has the same bytes everywhere.

Drawing units are CSS pixels; x grows to the right and y downwards. Colours are classes of page.css, so that a
drawing never holds a colour of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stages.core.report.markup import Child, Markup, decimal, tag

CHARACTER = 7.1
"""Width that a character of a 12 px label takes, in the widest of the page's fonts."""


def drawing(width: float, height: float, label: str, *children: Child) -> Markup:
    """A drawing of the given size that shrinks with the page; `label` is what a screen reader says."""
    box = f"0 0 {decimal(width)} {decimal(height)}"
    return tag(
        "svg", *children, viewBox=box, width=float(width), height=float(height), role="img", aria_label=label
    )


def group(*children: Child, style: str | None = None) -> Markup:
    return tag("g", *children, class_=style)


def words(x: float, y: float, text: str, anchor: str | None = None, style: str | None = None) -> Markup:
    """Text whose baseline starts, centres (`middle`) or ends (`end`) at (x, y)."""
    return tag("text", text, x=float(x), y=float(y), text_anchor=anchor, class_=style)


def turned(
    x: float, y: float, text: str, degrees: float, anchor: str | None = None, style: str | None = None
) -> Markup:
    """`words` turned about (x, y); -90 degrees read upwards."""
    turn = f"translate({decimal(x)} {decimal(y)}) rotate({decimal(degrees)})"
    return tag("text", text, transform=turn, text_anchor=anchor, class_=style)


def segment(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=style)


def box(x: float, y: float, width: float, height: float, style: str, tip: str | None = None) -> Markup:
    """A rectangle; `tip` shows when the pointer rests on it."""
    size = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return tag("rect", _tip(tip), **size, class_=style)


def circle(x: float, y: float, radius: float, style: str, tip: str | None = None) -> Markup:
    return tag("circle", _tip(tip), cx=float(x), cy=float(y), r=float(radius), class_=style)


def ellipse(x: float, y: float, spread: np.ndarray, style: str, tip: str | None = None) -> Markup:
    """The ellipse of one standard deviation of a covariance `spread` (2, 2) about (x, y)."""
    values, vectors = np.linalg.eigh(spread)
    minor, major = np.sqrt(np.maximum(values, 0.0))
    turn = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
    place = f"translate({decimal(x)} {decimal(y)}) rotate({decimal((turn + 90) % 180 - 90, 1)})"
    return tag("ellipse", _tip(tip), rx=float(major), ry=float(minor), transform=place, class_=style)


def curve(points: np.ndarray, style: str, closed: bool = False, tip: str | None = None) -> Markup | None:
    """A line through `points` (N, 2), broken at points that are not finite; None where none is."""
    commands, pen = [], "M"
    for x, y in np.asarray(points, float).reshape(-1, 2):
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        commands.append(f"{pen}{decimal(x, 1)} {decimal(y, 1)}")
        pen = "L"
    if not commands:
        return None
    return tag("path", _tip(tip), d="".join(commands) + ("Z" if closed else ""), class_=style)


def _tip(text: str | None) -> Markup | None:
    return None if text is None else tag("title", text)


def legend(
    entries: Sequence[tuple[str, str]], left: float, width: float, mark: str = "curve"
) -> tuple[Markup, float]:
    """(name, style) pairs in as many rows as they need, each with a mark drawn in its style.

    Args:
        mark: `curve`, a short line, `bar`, a small box, or `dot`, a point.
    Returns:
        the drawing and its height, 20 a row.
    """
    drawn: list[Markup] = []
    x, y = left, 14.0
    for name, style in entries:
        need = 25 + len(name) * CHARACTER
        if x > left and x + need > left + width:
            x, y = left, y + 20
        if mark == "curve":
            drawn.append(segment(x, y - 4, x + 19, y - 4, f"curve {style}"))
        elif mark == "bar":
            drawn.append(box(x + 5, y - 10, 12, 11, f"bar {style}"))
        else:
            drawn.append(circle(x + 11, y - 4, 4, f"dot {style}"))
        drawn.append(words(x + 25, y, name))
        x += need + 18
    return group(*drawn), y + 6 if entries else 0.0
