"""Figures and verdicts in words, the same on every page."""

from __future__ import annotations

import math
from dataclasses import dataclass

MISSING = "–"
"""What stands where a figure is unknown."""


@dataclass(frozen=True)
class Estimate:
    """A figure with an interval that aims at the coverage `level`; NaN bounds mean that there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = math.nan

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def figure(value: float, signed: bool = False) -> str:
    """Three significant digits without an exponent: 0.0123, 1.23, 12.3, 123, 1,234."""
    if not math.isfinite(value):
        return MISSING
    sign = "+" if signed and value > 0 else "−" if value < 0 else ""
    size = abs(value)
    if size == 0:
        return "0"
    places = 2 - math.floor(math.log10(float(f"{size:.3g}")))
    return f"{sign}{size:,.{max(0, min(places, 6))}f}"


def interval_name(estimate: Estimate) -> str:
    """`95 % interval`."""
    return f"{100 * estimate.level:g} % interval" if math.isfinite(estimate.level) else "interval"


def share(value: float) -> str:
    """A share between 0 and 1 as a percentage."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else MISSING


def interval(estimate: Estimate, signed: bool = False) -> str:
    """`low to high`, or nothing where there is no interval."""
    return (
        f"{figure(estimate.low, signed)} to {figure(estimate.high, signed)}" if estimate.has_interval else ""
    )


def with_interval(estimate: Estimate, unit: str = "", signed: bool = False) -> str:
    """For a sentence: `23.1 raw px (20.4 to 26.0)`."""
    text = f"{figure(estimate.value, signed)} {unit}".strip()
    return f"{text} ({interval(estimate, signed)})" if estimate.has_interval else text


VERDICTS = {
    "better": ("beats", "good"),
    "worse": ("worse", "bad"),
    "no difference": ("no difference shown", "open"),
    "too few groups": ("too few cases to tell", "open"),
}
"""Verdict of a paired comparison -> how a page says it of the first method, and the style with it."""


def listing(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 film`, `1,234 films`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
