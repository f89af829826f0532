"""The report's section on clicks: what a click on the worst point is worth, and how many films need."""

from __future__ import annotations

import math

import numpy as np

from stages.core.report.charts import Axis, Series, curves, spanning
from stages.core.report.evidence import Sampling, finite_mean
from stages.core.report.markup import Child, Markup
from stages.core.report.page import Cell, Page, answers, grid, picture, table
from stages.core.report.wording import MISSING, VERDICTS, count, figure, interval, share, with_interval
from stages.spine.looping.counting import clicks_needed
from stages.spine.report_loop import COURSES, STYLES, UNIT, LoopEvidence

TARGETS_RAW_PX = (20.0, 30.0, 40.0)
"""Mean errors of a film that a user may be content with."""
PUBLISHED = {
    "MICCAI 2022, 128 other films": {0: 58.58, 1: 35.39, 2: 29.35, 3: 24.02, 4: 21.06, 5: 17.67},
    "MICCAI 2022, by hand": {0: 58.58, 1: 55.85, 2: 53.33, 3: 50.90, 4: 48.55, 5: 47.03},
    "Public re-run, 127 other films": {
        **{0: 50.81, 1: 44.37, 2: 41.82, 3: 39.67, 4: 36.70, 5: 34.41},
        **{6: 31.74, 8: 27.67, 10: 24.53},
    },
    "Public re-run, by hand": {
        **{0: 50.81, 1: 48.30, 2: 45.96, 3: 43.71, 4: 41.57, 5: 40.12},
        **{6: 38.75, 8: 36.15, 10: 33.73},
    },
}
"""Mean error in raw px by number of clicks, as the reference's code and a public re-run of it report them."""
DRAWN = {"MICCAI 2022, 128 other films": "other3", "Public re-run, 127 other films": "other4"}
"""Published curves on the chart -> their style."""


def add_clicks(page: Page, evidence: LoopEvidence, phantom: bool, sampling: Sampling) -> None:
    """Error by number of clicks, and how many clicks films need.

    Args:
        phantom: leaves published figures off the chart, which a phantom says nothing about.
    """
    lead = (
        "An imagined user clicks the point that is then worst and puts it where the label has it. "
        "Clicked points count as right."
    )
    content: list[Child] = []
    if evidence.most:
        content.append(answers([worth_of_clicks(evidence, sampling)]))
        said = (
            "Mean error of the test films after so many clicks; lower is better. By hand, a click moves its own "
            "point only."
        )
        content.append(grid(picture(_click_chart(evidence, phantom), said), needs_table(evidence)))
    content.append(_click_table(evidence, sampling))
    page.add("clicks", "What clicks are worth", *content, lead=lead)


def worth_of_clicks(evidence: LoopEvidence, sampling: Sampling) -> tuple[str, str]:
    """What a few clicks change; the style is that of the Refiner's clicks against corrections by hand.

    The loop's course is no measure of a click, as it begins elsewhere.
    """
    few = evidence.few
    first, after = (evidence.mean("loop", clicks, sampling) for clicks in (0, few))
    alone, by_hand = (evidence.mean(course, few, sampling) for course in ("refiner", "manual"))
    _, verdict = evidence.difference("refiner", "manual", few, sampling)
    free = float(finite_mean(evidence.answered["loop"][few]))
    words = {
        "better": "A click puts more right than the point that it is on.",
        "worse": "What a click moves beyond its own point does harm.",
        "no difference": "That a click puts more right than its own point is not shown.",
        "too few groups": "There are too few cases to tell whether a click puts more right than its own point.",
    }
    said = (
        f"{count(few, 'click').capitalize()} a film {'takes' if few == 1 else 'take'} the mean error from "
        f"{figure(first.value)} to {with_interval(after, UNIT)}; the Refiner alone gets to "
        f"{figure(alone.value)}, and its answer corrected by hand to {figure(by_hand.value)}. {words[verdict]} "
        f"With clicked points as the system answers them, not as the label has them, the error is {figure(free)}."
    )
    return VERDICTS[verdict][1], said


def _click_chart(evidence: LoopEvidence, phantom: bool) -> Markup:
    drawn = [
        Series(name, np.arange(len(evidence.errors[c])), finite_mean(evidence.errors[c], axis=1), STYLES[c])
        for c, name in COURSES.items()
    ]
    if not phantom:
        for name, style in DRAWN.items():
            known = PUBLISHED[name]
            drawn.append(Series(name, np.array(list(known)), np.array(list(known.values())), style))
    x = Axis(0, max(3, evidence.most), "clicks on the worst point")
    y = spanning(np.concatenate([s.y for s in drawn]), f"mean error ({UNIT})")
    return curves(drawn, x, y, "Mean error by number of clicks", height=340)


def needs_table(evidence: LoopEvidence) -> Markup:
    """Number of clicks and failure rate by target."""
    rows: list[list[Child | Cell]] = []
    for course, name in COURSES.items():
        errors = evidence.errors[course][: evidence.most + 1]
        errors = errors[:, np.isfinite(errors).all(0)]
        cells: list[Child | Cell] = [name]
        for target in TARGETS_RAW_PX:
            needed, failed = clicks_needed(errors, target) if errors.size else (math.nan, math.nan)
            cells += [f"{needed:.1f}" if math.isfinite(needed) else MISSING, share(failed)]
        rows.append(cells)
    headings = ["", *(h for t in TARGETS_RAW_PX for h in (f"NoC {t:g}", f"FR {t:g}"))]
    caption = (
        f"NoC 20: clicks until a film's mean error is at most 20 {UNIT}, mean over films; a film that never "
        f"gets there counts {evidence.most}. FR 20: share of the films that do not within "
        f"{count(evidence.most, 'click')}."
    )
    return table(headings, rows, numeric=range(1, len(headings)), caption=caption, emphasised=(0,))


def _click_table(evidence: LoopEvidence, sampling: Sampling) -> Markup:
    """Measured and published errors side by side."""
    rows: list[list[Child | Cell]] = []
    for clicks in range(evidence.most + 1):
        if clicks > 10 and clicks % 10:
            continue
        means = {c: evidence.mean(c, clicks, sampling) for c in COURSES}
        rows.append(
            [
                f"{clicks}",
                figure(means["loop"].value),
                interval(means["loop"]),
                *(figure(means[c].value) for c in COURSES if c != "loop"),
                *(figure(known.get(clicks, math.nan)) for known in PUBLISHED.values()),
            ]
        )
    own = [name[0].upper() + name[1:] for name in COURSES.values()]
    level = f"{100 * sampling.settings.level:g} % interval"
    headings = ["Clicks", own[0], level, *own[1:], *PUBLISHED]
    caption = (
        f"Mean error in {UNIT}. The last four columns are published figures on other films: a run on other "
        "films can be near them or far from them without either being wrong."
    )
    return table(headings, rows, numeric=range(1, len(headings)), caption=caption)
