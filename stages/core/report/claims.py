"""What the system description claims, beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.core.report.markup import Child, Markup
from stages.core.report.page import Cell, table
from stages.core.report.wording import Estimate, with_interval


@dataclass(frozen=True)
class Claim:
    """One published figure.

    Attributes:
        what: the quantity, in words.
        claimed: the figure as published, with its unit.
        source: who says so, and on which cases.
        value: the figure as a number where a measurement can be held against it; lower is better.
        measure: name of the quantity measured here that answers it; "" where nothing does.
        remark: what has to be known to read the line.
    """

    what: str
    claimed: str
    source: str
    value: float | None = None
    measure: str = ""
    remark: str = ""


def claims_table(
    claims: Sequence[Claim], measured: Mapping[str, tuple[Estimate, str]], unreal: str
) -> Markup:
    """A row per claim with the measured figure and a verdict.

    Args:
        measured: name of a quantity -> its estimate and unit.
        unreal: why no figure here can decide: "phantom", "simulated", or "" where they can.
    """
    rows: list[list[Child | Cell]] = []
    for claim in claims:
        estimate, unit = measured.get(claim.measure, (None, ""))
        shown = with_interval(estimate, unit) if estimate else "not measured"
        verdict, style = judge(claim, estimate, unreal)
        rows.append(
            [claim.what, claim.claimed, claim.source, shown, Cell(verdict, style=style), claim.remark]
        )
    return table(["Quantity", "Claimed", "Claimed by", "Measured here", "Verdict", "Remark"], rows)


def judge(claim: Claim, estimate: Estimate | None, unreal: str) -> tuple[str, str]:
    """The verdict on a claim in words, and its style."""
    if estimate is None or claim.value is None:
        return "not tested", "open"
    if unreal:
        return f"no verdict: {unreal}", "open"
    if not estimate.has_interval:
        return "no verdict: no interval", "open"
    if estimate.high < claim.value:
        return "better here", "good"
    if estimate.low > claim.value:
        return "not reached here", "bad"
    return "in agreement", "open"
