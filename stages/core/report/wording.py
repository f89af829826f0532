"""Figures and verdicts in words, the same on every page."""

from __future__ import annotations

import math
from dataclasses import dataclass

MISSING = "–"
"""What stands where a figure is unknown."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, in the unit that the caller states. NaN bounds mean no interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

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


def verdict(difference: Estimate) -> str:
    """What a paired difference in error, model minus other, says about the model.

    Returns:
        "beats" when the whole interval is below zero, "worse" when it is above, else "no difference shown".
    """
    if not difference.has_interval:
        return "not tested"
    if difference.high < 0:
        return "beats"
    return "worse" if difference.low > 0 else "no difference shown"


VERDICT_CLASS = {"beats": "good", "worse": "bad", "no difference shown": "open", "not tested": "open"}
"""Style of a verdict; colour only repeats what the word says."""


def listing(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 film`, `1,234 films`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
