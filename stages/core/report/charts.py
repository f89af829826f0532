"""Charts with axes: curves, horizontal bars with intervals, columns side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.report.markup import Child, Markup, decimal
from stages.core.report.svg import (
    CHARACTER,
    box,
    circle,
    curve,
    drawing,
    group,
    legend,
    segment,
    turned,
    words,
)
from stages.core.report.wording import Estimate, figure, interval

WIDTH, HEIGHT = 520.0, 300.0
"""Size of a chart that takes half the width of a page."""


@dataclass(frozen=True)
class Axis:
    """A range of data values with its label, which names the unit."""

    low: float
    high: float
    label: str
    log: bool = False

    def place(self, value: float, start: float, end: float) -> float:
        """Where `value` lies between the drawing positions `start` (of low) and `end` (of high)."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return start + (end - start) * (value - low) / (high - low)

    def clip(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def ticks(self) -> list[float]:
        """Round values in the range: 1, 2 or 5 times a power of ten apart; 1-2-5 steps on a log axis."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 4 else (1,)
            return [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def text(self, value: float) -> str:
        """A tick's label, with as many decimals as the step between ticks needs."""
        if self.log:
            return decimal(value, 6)
        places = max(0, -math.floor(math.log10(_round_step((self.high - self.low) / 5)) + 1e-9))
        return f"{value:,.{places}f}".replace("-", "−")


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)


def spanning(values: Sequence[float] | np.ndarray, label: str, zero: bool = True, log: bool = False) -> Axis:
    """The axis that holds every finite value, from zero if asked for, with a little room at the top."""
    given = np.asarray(values, float)
    given = given[np.isfinite(given) & ((given > 0) | (not log))]
    low, high = (float(given.min()), float(given.max())) if given.size else (0.1, 1.0)
    if log:
        return Axis(low / 1.15, high * 1.15, label, log=True)
    low = min(0.0, low) if zero else low
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low if zero else low - room, high + room, label)


@dataclass(frozen=True)
class Series:
    """A curve. `style` is a class of page.css: `model`, `truth`, `other1` to `other6`, ..."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str


@dataclass(frozen=True)
class Bar:
    """A horizontal bar with the 95 % interval of its length."""

    name: str
    length: Estimate
    style: str = "other1"


@dataclass(frozen=True)
class Frame:
    """Where the data area of a chart lies in its drawing."""

    left: float
    right: float
    top: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    def upright_axis(self, axis: Axis) -> list[Markup]:
        """Grid lines, tick labels and name of the axis on the left."""
        drawn = []
        for value in axis.ticks():
            y = axis.place(value, self.bottom, self.top)
            drawn += [
                segment(self.left, y, self.right, y, "grid"),
                words(self.left - 8, y + 4, axis.text(value), "end"),
            ]
        return [*drawn, turned(14, (self.top + self.bottom) / 2, axis.label, -90, "middle", "name")]

    def level_axis(self, axis: Axis, grid: bool = False) -> list[Markup]:
        """Tick marks or grid lines, tick labels and name of the axis at the bottom."""
        drawn = []
        for value in axis.ticks():
            x = axis.place(value, self.left, self.right)
            end, style = (self.top, "grid") if grid else (self.bottom + 5, "rule")
            drawn.append(segment(x, self.bottom, x, end, style))
            drawn.append(words(x, self.bottom + 19, axis.text(value), "middle"))
        return [*drawn, self.level_name(axis.label)]

    def level_name(self, label: str) -> Markup:
        return words((self.left + self.right) / 2, self.bottom + 40, label, "middle", "name")


def curves(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    label: str,
    mark: tuple[float, float, str] | None = None,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> Markup:
    """Lines over common axes, with a legend where there is more than one; beyond the y axis they are cut off.

    Args:
        mark: a point (x, y, words) to single out, for example the epoch that was kept.
    """
    key, room = legend([(s.name, s.style) for s in series] if len(series) > 1 else [], 58, width - 72)
    frame = Frame(58, width - 14, room + 12, height - 46)
    drawn: list[Child] = [key, *frame.upright_axis(y), *frame.level_axis(x)]
    drawn.append(segment(frame.left, frame.bottom, frame.right, frame.bottom, "rule"))
    for s in series:
        shown = np.isfinite(s.x) & np.isfinite(s.y) & (s.x >= x.low) & (s.x <= x.high)
        points = [
            (x.place(a, frame.left, frame.right), y.place(y.clip(b), frame.bottom, frame.top))
            for a, b in zip(s.x[shown], s.y[shown], strict=True)
        ]
        drawn.append(curve(np.array(points), f"curve {s.style}", tip=s.name))
    if mark is not None:
        px, py = x.place(mark[0], frame.left, frame.right), y.place(mark[1], frame.bottom, frame.top)
        late = px > (frame.left + frame.right) / 2
        drawn.append(circle(px, py, 4.5, "mark"))
        drawn.append(words(px + (-8 if late else 8), py - 10, mark[2], "end" if late else None, "strong"))
    return drawing(width, height, label, group(*drawn, style="chart"))


def bars(entries: Sequence[Bar], axis: Axis, label: str, width: float = WIDTH) -> Markup:
    """Horizontal bars from zero with whiskers for their intervals; the figure stands after each."""
    row = 34.0
    left = min(230.0, 16 + CHARACTER * max(len(b.name) for b in entries))
    frame = Frame(left, width - 62, 6, 6 + row * len(entries))
    drawn: list[Child] = [*frame.level_axis(axis, grid=True)]
    for k, bar in enumerate(entries):
        middle = frame.top + row * (k + 0.5)
        drawn.append(words(left - 9, middle + 4, bar.name, "end", "strong" if bar.style == "model" else None))
        drawn += _bar(bar, axis, frame, middle, row - 14)
    drawn.append(segment(left, frame.top, left, frame.bottom, "rule"))
    return drawing(width, frame.bottom + 46, label, group(*drawn, style="chart"))


def _bar(bar: Bar, axis: Axis, frame: Frame, middle: float, thick: float) -> list[Markup]:
    length = bar.length
    if not math.isfinite(length.value):
        return [words(frame.left + 6, middle + 4, "no figure")]
    end = axis.place(axis.clip(length.value), frame.left, frame.right)
    tip = (
        f"{bar.name}: {figure(length.value)} {f'({interval(length)})' if length.has_interval else ''}".strip()
    )
    drawn = [box(frame.left, middle - thick / 2, max(end - frame.left, 0.5), thick, f"bar {bar.style}", tip)]
    reach = end
    if length.has_interval:
        low, high = (axis.place(axis.clip(v), frame.left, frame.right) for v in (length.low, length.high))
        drawn.append(segment(low, middle, high, middle, "whisker"))
        drawn += [segment(at, middle - 5, at, middle + 5, "whisker") for at in (low, high)]
        reach = max(end, high)
    return [*drawn, words(reach + 7, middle + 4, figure(length.value), style="strong")]


def columns(
    names: Sequence[str],
    groups: Sequence[tuple[str, str, np.ndarray]],
    x_label: str,
    y_label: str,
    label: str,
    width: float = WIDTH,
    height: float = HEIGHT,
    slanted: bool = False,
) -> Markup:
    """Upright bars side by side: for each name one bar of each group (name, style, values by name).

    Args:
        slanted: write every name at an angle and no `x_label`; otherwise names without room are left out.
    """
    y = spanning(np.concatenate([values for _, _, values in groups]), y_label)
    key, room = legend(
        [(g, style) for g, style, _ in groups] if len(groups) > 1 else [], 58, width - 72, "bar"
    )
    longest = CHARACTER * max(map(len, names))
    frame = Frame(58, width - 14, room + 12, height - (28 + 0.72 * longest if slanted else 46))
    drawn: list[Child] = [key, *frame.upright_axis(y)]
    drawn.append(None if slanted else frame.level_name(x_label))
    slot = frame.width / len(names)
    thick = 0.8 * slot / len(groups)
    every = 1 if slanted else math.ceil((longest + CHARACTER) / slot)
    for k, name in enumerate(names):
        for g, (title, style, values) in enumerate(groups):
            if math.isfinite(values[k]):
                at = y.place(float(values[k]), frame.bottom, frame.top)
                start = frame.left + slot * (k + 0.1) + g * thick
                tip = f"{name}, {title}: {figure(float(values[k]))}"
                drawn.append(box(start, at, thick * 0.92, frame.bottom - at, f"bar {style}", tip))
        middle = frame.left + slot * (k + 0.5)
        if slanted:
            drawn.append(turned(middle + 4, frame.bottom + 14, name, -45, "end"))
        elif k % every == 0:
            drawn.append(words(middle, frame.bottom + 19, name, "middle"))
    drawn.append(segment(frame.left, frame.bottom, frame.right, frame.bottom, "rule"))
    return drawing(width, height, label, group(*drawn, style="chart"))


def scatter(
    x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, tips: Sequence[str], label: str
) -> Markup:
    """Points over two axes of the same range, and the line on which both are equal; without NaN."""
    both = spanning(np.concatenate([x, y]), x_label)
    across, upright_ = both, Axis(both.low, both.high, y_label)
    size = 380.0
    frame = Frame(58, size - 14, 12, size - 46)
    drawn: list[Child] = [*frame.upright_axis(upright_), *frame.level_axis(across)]
    drawn.append(segment(frame.left, frame.bottom, frame.right, frame.bottom, "rule"))
    drawn.append(segment(frame.left, frame.bottom, frame.right, frame.top, "equal"))
    for a, b, tip in zip(x, y, tips, strict=True):
        if math.isfinite(a) and math.isfinite(b):
            px = across.place(float(a), frame.left, frame.right)
            py = upright_.place(float(b), frame.bottom, frame.top)
            drawn.append(circle(px, py, 4, "dot model spot", tip))
    return drawing(size, size, label, group(*drawn, style="chart"))


def error_curve(errors: np.ndarray, points: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative error curve: for each error the share of cases that are at most that far off.

    Args:
        errors: (N,) errors; those that are not finite count as cases that no error reaches.
        points: at most this many are returned, evenly spread over the sorted cases.
    Returns:
        sorted errors and shares between 0 and 1, both (M,).
    """
    errors = np.asarray(errors, float)
    finite = np.sort(errors[np.isfinite(errors)])
    shares = np.arange(1, finite.size + 1) / max(errors.size, 1)
    keep = np.unique(np.linspace(0, finite.size - 1, min(points, finite.size)).round().astype(int))
    return finite[keep], shares[keep]
