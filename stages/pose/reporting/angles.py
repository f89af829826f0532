"""The pose page's sections on angles: where the camera stands, and the joints."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stages.core.report.charts import columns
from stages.core.report.evidence import estimate
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Page, note, picture, stack, table, verdict_words
from stages.core.report.wording import figure, interval, interval_name, listing
from stages.pose.kinematics.angles import ANGLE_NAMES
from stages.pose.reporting.evidence import INPUT, MODEL, Evidence, in_words

ANGLE = "sim_joint_angle_deg"
ELEVATION = "sim_elevation_mae_deg"
CONSTANT_TITLES = {
    "mean": "constant: mean of training",
    "camera_mean": "constant: mean of training by camera",
}
_VIEW_ANGLES = {
    "sim_azimuth_median_deg": "Azimuth, median (degrees)",
    "sim_front_back_flips_percent": "Front taken for back (%)",
    ELEVATION: "Elevation, mean (degrees)",
}


def add_view_angles(page: Page, found: Evidence) -> None:
    """Azimuth and elevation of the camera by every method, and by constants that look at no pose."""
    rows = [_view_row(found, m.name, found.of(m.key)) for m in found.methods]
    for name, title in CONSTANT_TITLES.items():
        rows.append(_view_row(found, title, found.constants[found.constants["constant"] == name]))
    level = interval_name(found.methods[0].error)
    headings = ["Method", *(h for title in _VIEW_ANGLES.values() for h in (title, level))]
    models = [k for k, m in enumerate(found.methods) if m.is_model]
    lead = (
        "Where the camera stands as seen from the body, by the attitude of the pose's trunk. Elevations lie "
        "close together wherever cameras hang at one height, so that a constant is hard to beat: a method "
        "that does not beat it has told nothing."
    )
    page.add(
        "views", "Where the camera stands", table(headings, rows, range(1, 7), emphasised=models), lead=lead
    )


def _view_row(found: Evidence, title: str, cases: pd.DataFrame) -> list[Child | Cell]:
    cells: list[Child | Cell] = [title]
    for name in _VIEW_ANGLES:
        error = estimate(cases, name, found.sampling)
        cells += [figure(error.value), interval(error)]
    return cells


def add_joint_angles(page: Page, found: Evidence) -> None:
    """Every observable joint angle before and after the correction."""
    seen = [angle for angle in ANGLE_NAMES if angle in set(found.angles["angle"])]
    both = found.angles[found.angles["method"].isin([INPUT, MODEL])]
    rows: list[list[Child | Cell]] = []
    means: dict[str, list[float]] = {INPUT: [], MODEL: []}
    for angle in seen:
        part = both[both["angle"] == angle]
        before, after = (estimate(part[part["method"] == m], ANGLE, found.sampling) for m in means)
        change, verdict = found.change(part, ANGLE)
        means[INPUT].append(before.value)
        means[MODEL].append(after.value)
        changed = [figure(change.value, signed=True), interval(change, signed=True)]
        rows.append(
            [in_words(angle), figure(before.value), figure(after.value), *changed, verdict_words(verdict)]
        )
    level = interval_name(found.methods[0].error)
    headings = ["Angle, mean error in degrees", "Before", "After", "Change", level, "The correction"]
    drawn = columns(
        [in_words(angle) for angle in seen],
        [("before", "before", np.array(means[INPUT])), ("after", "prediction", np.array(means[MODEL]))],
        "angle",
        "mean error (degrees)",
        "Mean error of each joint angle before and after",
        width=1040,
        height=380,
        slanted=True,
    )
    unseen = (
        angle.removeprefix("left_").removeprefix("right_") for angle in ANGLE_NAMES if angle not in seen
    )
    hidden = [in_words(angle) for angle in dict.fromkeys(unseen)]
    page.add(
        "angles",
        "Joint angles",
        stack(
            picture(drawn, "By angle, mean over the test views."),
            table(headings, rows, numeric=(1, 2, 3, 4)),
            note(f"Not observable from seventeen joint centres, and not judged: {listing(hidden)}."),
        ),
        lead="Angles of the label's pose against those of the estimate and of the corrected pose. Frames count "
        "by how well the label shows the angle; changes are paired by view.",
    )
