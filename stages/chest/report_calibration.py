"""The report's sections on what the system says about itself, and on shapes that hold together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.chest.measures import CONSTANT, ERROR, METHOD
from stages.core.data import tables
from stages.core.report.charts import scatter
from stages.core.report.evidence import Sampling, estimate, read_csv
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Method, Page, answers, grid, note, picture, stack, table
from stages.core.report.wording import MISSING, Estimate, figure, interval, share

GROUPS = 10
"""At most so many groups of points by radius, each of at least LEAST points."""
LEAST = 20


@dataclass(frozen=True)
class Calibration:
    """The test films' rows of radius.parquet and calibration.csv.

    Attributes:
        errors, radii: (n,) px at 224, of the points with a label.
        claimed: the share of labels that discs are meant to hold.
        own: the share that they hold.
        within: (limit in px at 224, points said to lie within it, share of them that do).
        level: of the intervals.
    """

    errors: np.ndarray
    radii: np.ndarray
    claimed: float
    own: Estimate
    within: list[tuple[float, int, Estimate]]

    @classmethod
    def read(cls, evaluation: Path, level: float) -> Calibration:
        discs = tables.read_table(evaluation / "radius.parquet")
        discs = discs[(discs["role"] == "test") & np.isfinite(discs[ERROR])]
        rows = read_csv(evaluation / "calibration.csv")
        rows = rows[rows["role"] == "test"]
        found = [
            (float(r["limit_px224"]), int(r["n_points"]), Estimate(r["held"], r["low"], r["high"], level))
            for _, r in rows.iterrows()
        ]
        own = next((e for limit, _, e in found if np.isnan(limit)), Estimate(np.nan))
        return cls(
            discs[ERROR].to_numpy(float),
            discs["radius_px224"].to_numpy(float),
            float(rows["claimed"].iloc[0]) if len(rows) else np.nan,
            own,
            [entry for entry in found if np.isfinite(entry[0])],
        )


def by_radius(errors: np.ndarray, radii: np.ndarray, claimed: float) -> tuple[np.ndarray, np.ndarray]:
    """Points in groups of equal size by their radius: the groups' mean radius, and the error that `claimed` of
    their points stay within, both (groups,). On a good calibration the two are equal."""
    order = np.argsort(radii, kind="stable")
    groups = np.array_split(order, int(np.clip(len(order) // LEAST, 1, GROUPS))) if len(order) else []
    means = np.array([radii[g].mean() for g in groups])
    return means, np.array([np.quantile(errors[g], claimed) for g in groups])


def coverage_words(found: Calibration) -> tuple[str, str]:
    """(style, sentence): do as many labels lie inside their discs as is claimed?"""
    own = found.own
    said = f"Of the labels {share(own.value)} lie inside their disc; {share(found.claimed)} should."
    if not own.has_interval:
        return "open", f"{said} There are too few films for an interval."
    bounds = f"{100 * own.low:.0f} to {100 * own.high:.0f} %"
    if own.high < found.claimed:
        return "bad", f"{said} The interval is {bounds}: the discs promise too much."
    if own.low > found.claimed:
        return "open", f"{said} The interval is {bounds}: the discs are wider than they need be."
    return "good", f"{said} The interval is {bounds}."


def add_calibration(page: Page, found: Calibration, unit: str) -> None:
    """Whether discs hold what they promise, over all points, by what they promise and by their size."""
    lead = (
        f"Each point comes with a disc that should hold the label in {share(found.claimed)} of cases. Its radius "
        "was fitted to development films, whose points were predicted by networks that had not seen them."
    )
    means, reached = by_radius(found.errors, found.radii, found.claimed)
    tips = [
        f"mean radius {figure(m)}, {share(found.claimed)} of errors within {figure(e)}"
        for m, e in zip(means, reached, strict=True)
    ]
    drawn = scatter(
        means,
        reached,
        f"mean radius ({unit})",
        f"error that {share(found.claimed)} stay within ({unit})",
        tips,
        "Radius of the discs against errors, points in groups by their radius",
    )
    rows: list[list[Child | Cell]] = [
        ["its own disc", f"{len(found.errors):,}", share(found.own.value), _shares(found.own)]
    ]
    rows += [
        [f"{limit:g} {unit}", f"{n:,}", share(held.value), _shares(held)] for limit, n, held in found.within
    ]
    level = f"{100 * found.own.level:g} % interval"
    shown = table(["Said to lie within", "Points", "That do", level], rows, numeric=(1, 2, 3))
    said = note(
        f"A point is said to lie within a radius when its disc is no larger; at least {share(found.claimed)} of "
        "such points should. Intervals are over films."
    )
    caption = (
        f"Points in {len(means)} groups by the radius of their disc. On the dashed line radii are right; above "
        "it errors are larger than the discs."
    )
    content = grid(picture(drawn, caption), stack(answers([coverage_words(found)]), shown, said))
    page.add("calibration", "Does it know how far off it is", content, lead=lead)


def _shares(held: Estimate) -> str:
    return f"{100 * held.low:.0f} to {100 * held.high:.0f} %" if held.has_interval else ""


def add_consistency(
    page: Page, cases: pd.DataFrame, methods: Sequence[Method], unit: str, sampling: Sampling
) -> None:
    """How far shapes are from the label's symmetry and distances, every method beside the mean shape."""
    test = cases[cases["role"] == "test"]
    rows: list[list[Child | Cell]] = []
    for m in methods:
        own = test[test["method"] == m.key]
        cells: list[Child | Cell] = [m.name]
        for measure in ("asymmetry_px224", "distances_px224"):
            found = estimate(own, measure, sampling)
            cells += [figure(found.value), interval(found)]
        widths = estimate(own, "error_widths", sampling).value
        rows.append([*cells, f"{100 * widths:.1f} %" if np.isfinite(widths) else MISSING])
    level = f"{100 * sampling.settings.level:g} % interval"
    headings = ["Method", f"Asymmetry ({unit})", level, f"Distances ({unit})", level, "Error / width L14–L15"]
    emphasised = [k for k, m in enumerate(methods) if m.key == METHOD]
    lead = (
        "Both are measured against the label. Asymmetry: how much further the left contour lies from the axis "
        "than the right one, mean difference from the label's over five levels. Distances: mean difference "
        "from the label's over five pairs of points."
    )
    said = note(
        "A score of the shape alone says nothing here: symmetry and distances in units of the film are near "
        f"their best for any shape that looks like lungs, so for the {CONSTANT.replace('_', ' ')} as well, which "
        "is the same on every film."
    )
    shown = table(headings, rows, numeric=(1, 2, 3, 4, 5), emphasised=emphasised)
    page.add("consistency", "Does the shape hold together", stack(shown, said), lead=lead)
