"""The report's section on risk: whether the Detector, or the Refiner's own maps, find points that are wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stages.core.report.charts import Axis, Bar, bars
from stages.core.report.page import Page, answers, grid, note, picture, stack
from stages.core.report.wording import Estimate, listing, share
from stages.spine.report_loop import LoopEvidence

SIGNALS = {
    "detector": "Detector",
    "spread": "spread of the Refiner's map",
    "peak": "peak of the Refiner's map",
}
"""What may order points by their risk -> how the page calls it."""


def add_risk(page: Page, evidence: LoopEvidence) -> None:
    """How well the Detector, and the Refiner's own maps, find points that are wrong."""
    prevalence = evidence.risk["prevalence"]
    found = {name: evidence.risk.get(f"pr_auc_{name}", math.nan) for name in SIGNALS}
    lead = "Who warns of a wrong point: the Detector, or already the map that the Refiner drew for it?"
    said = f"{share(prevalence)} of the points that the Refiner sets are wrong: further off than the Detector's limit."
    if not any(map(math.isfinite, found.values())):
        page.add(
            "risk", "Can it tell when it is wrong", note(said, " There is nothing to tell apart."), lead=lead
        )
        return
    entries = [Bar(SIGNALS[name], Estimate(value), _risk_style(name)) for name, value in found.items()]
    entries.append(Bar("a random order", Estimate(prevalence), "before"))
    drawn = bars(
        entries, Axis(0, 1.0, "average precision"), "Average precision in the search for wrong points"
    )
    caption = (
        "Average precision over all test points: 1 where every wrong point comes before every right one. "
        "A random order reaches the share of wrong points. These figures have no interval."
    )
    content = grid(
        picture(drawn, caption),
        stack(answers([(best_signal(found, prevalence)), ("open", said)]), note(at_threshold(evidence.risk))),
    )
    page.add("risk", "Can it tell when it is wrong", content, lead=lead)


def _risk_style(name: str) -> str:
    return "model" if name == "detector" else "other2"


def best_signal(found: Mapping[str, float], prevalence: float) -> tuple[str, str]:
    """Who finds wrong points best; open, as there is no interval."""
    order = sorted((name for name in found if math.isfinite(found[name])), key=lambda n: (-found[n], n))
    best, rest = order[0], order[1:]
    if found[best] <= prevalence:
        return "bad", "What finds wrong points best is no better than a random order."
    others = listing([f"{SIGNALS[name]} {found[name]:.2f}" for name in rest])
    who = "The Detector finds" if best == "detector" else f"Not the Detector: the {SIGNALS[best]} finds"
    beside = f"; {others}" if rest else ""
    return "open", (
        f"{who} wrong points best, with an average precision of {found[best]:.2f}{beside}, and {prevalence:.2f} "
        "for a random order."
    )


def at_threshold(risk: Mapping[str, float]) -> str:
    precision, recall = (risk.get(f"{name}_at_threshold", math.nan) for name in ("precision", "recall"))
    if not math.isfinite(precision):
        return "At the loop's threshold the Detector flags no point."
    caught = f"; of the wrong points it flags {share(recall)}" if math.isfinite(recall) else ""
    return f"At the loop's threshold {share(precision)} of the flagged points are wrong{caught}."
