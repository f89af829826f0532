"""The pose page's section on circumstances: seen from where, how visible, head up or down, which dance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stages.core.report.charts import columns
from stages.core.report.evidence import estimate
from stages.core.report.markup import Child, Markup
from stages.core.report.page import Cell, Page, grid, picture, stack, table, verdict_words
from stages.core.report.wording import figure, interval, interval_name
from stages.pose.body.skeleton import N_JOINTS
from stages.pose.evaluation.schemas import PARTS as BINS
from stages.pose.reporting.evidence import DEPTH, INPUT, MODEL, UNIT, Evidence

TITLES = {
    "azimuth": ("seen from", {"0": "front", "90": "right", "180": "behind", "270": "left"}),
    "visibility": ("visibility", {}),
    "posture": ("posture", {"inverted": "head low"}),
}
"""Part of per_part.parquet -> how the page calls it, and those of its bins that have another name."""


def add_parts(page: Page, found: Evidence) -> None:
    pieces = _pieces(found)
    charts = [
        _chart(title, [p for p in pieces if p[0] == title])
        for title in dict.fromkeys(title for title, _, _, _ in pieces)
    ]
    rows: list[list[Child | Cell]] = []
    for title, name, cases, samples in pieces:
        before, after = (estimate(cases[cases["method"] == m], DEPTH, found.sampling) for m in (INPUT, MODEL))
        change, verdict = found.change(cases, DEPTH)
        shown = [figure(before.value), figure(after.value), interval(after)]
        changed = [figure(change.value, signed=True), interval(change, signed=True), verdict_words(verdict)]
        rows.append([f"{title}: {name}", samples, *shown, *changed])
    level = interval_name(found.methods[0].error)
    headings = [
        *(f"Mean |depth error| ({UNIT})", "Joints of frames", "Before", "After", level),
        *("Change", level, "The correction"),
    ]
    lead = (
        "Means over the views that show the circumstance; changes are paired by view. Azimuth is the label's, "
        "in degrees; visibility is told apart joint by joint, in thirds of what the test views have."
    )
    content = stack(grid(*charts), table(headings, rows, numeric=range(1, 7)))
    page.add("parts", "Under which circumstances", content, lead=lead)


Piece = tuple[str, str, pd.DataFrame, str]
"""Title of the part, name of the bin, its rows of both methods by view, number of samples in words"""


def _pieces(found: Evidence) -> list[Piece]:
    both = found.parts[found.parts["method"].isin([INPUT, MODEL])]
    pieces: list[Piece] = []
    for part, (title, names) in TITLES.items():
        rows = both[both["part"] == part]
        for name in (name for name in BINS[part] if name in set(rows["bin"])):
            cases = rows[rows["bin"] == name]
            samples = f"{cases.loc[cases['method'] == MODEL, 'n_samples'].sum():,}"
            said = f"{name} ({names[name]})" if name.isdigit() and name in names else names.get(name, name)
            pieces.append((title, said, cases, samples))
    for genre, cases in found.of_both.groupby("genre"):
        frames = cases.loc[cases["method"] == MODEL, "n_frames"].sum()
        pieces.append(("genre", str(genre), cases, f"{N_JOINTS * frames:,}"))
    return pieces


def _chart(title: str, pieces: list[Piece]) -> Markup:
    before, after = (
        np.array([cases.loc[cases["method"] == m, DEPTH].mean() for _, _, cases, _ in pieces])
        for m in (INPUT, MODEL)
    )
    drawn = columns(
        [name.split(" (")[0] for _, name, _, _ in pieces],
        [("before", "before", before), ("after", "prediction", after)],
        "azimuth (degrees)" if title == "seen from" else title,
        f"mean |depth error| ({UNIT})",
        f"Mean depth error by {title}, before and after",
        height=260,
    )
    return picture(drawn, f"By {title}." if title != "seen from" else "By the side that the camera sees.")
