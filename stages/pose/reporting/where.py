"""The pose page's section on where the error lies: joints, cameras, views, and what the model expects."""

from __future__ import annotations

import numpy as np

from stages.core.report import sections
from stages.core.report.charts import Bar, bars, columns, scatter, spanning
from stages.core.report.error_maps import error_discs
from stages.core.report.evidence import estimate, finite_mean
from stages.core.report.markup import Child, Markup, tag
from stages.core.report.page import Cell, Page, beside, grid, picture, stack, table
from stages.core.report.wording import figure
from stages.pose.body.skeleton import JOINTS, SCHEMA
from stages.pose.reporting.evidence import DEPTH, INPUT, MODEL, UNIT, Evidence, in_words
from stages.pose.simulation.packed import Packed


def add_where(page: Page, found: Evidence) -> None:
    before, after = found.by_joint(INPUT), found.by_joint(MODEL)
    discs = error_discs(
        mean_pose(found.packed),
        [("before", "before", before), ("after", "prediction", after)],
        [in_words(joint) for joint in JOINTS],
        SCHEMA.edges,
        UNIT,
        "Mean depth error of each joint on the mean pose",
        height=620,
    )
    joints = columns(
        [in_words(joint) for joint in JOINTS],
        [("before", "before", before), ("after", "prediction", after)],
        "joint",
        "mean |depth error| (cm)",
        "Mean depth error of each joint before and after",
        slanted=True,
    )
    by_camera = [
        Bar(cam, estimate(found.tested[found.tested["cam"] == cam], DEPTH, found.sampling), "model")
        for cam in found.cameras
    ]
    reach = [v for bar in by_camera for v in (bar.length.value, bar.length.high)]
    drawn = bars(by_camera, spanning(reach, "mean |depth error| (cm)"), "Mean depth error of each camera")
    page.add(
        "where",
        "Where the error lies",
        beside(
            picture(
                discs,
                "Mean pose, seen by the first camera. A disc's radius is the joint's mean |depth error|.",
            ),
            stack(
                picture(joints, "By joint, over all frames of the test views."),
                picture(drawn, "By camera, after the correction; whiskers are the intervals."),
            ),
        ),
        tag("h3", "Joint and camera"),
        _heat_table(found),
        grid(_error_curves(found), _calibration(found)),
        lead="Which joints, seen from where?",
    )


def mean_pose(packed: Packed) -> np.ndarray:
    """(17, 2) cm: mean label over a few thousand frames of the first camera's test views, x right, y down."""
    role = packed.role("test")
    first = role.views[role.views["cam"] == role.views["cam"].min()]
    rows = np.concatenate([np.arange(v.first_row, v.first_row + v.n_rows) for v in first.itertuples()])
    kept = rows[:: max(1, len(rows) // 2000)]
    return 100 * finite_mean(np.asarray(role["gt_pose"][kept], np.float64)[..., :2])


def _heat_table(found: Evidence) -> Markup:
    part = found.joints[found.joints["method"] == MODEL]
    wide = (
        part.pivot(index="joint", columns="cam", values=DEPTH)
        .reindex(index=JOINTS, columns=found.cameras)
        .to_numpy(float)
    )
    highest = max(float(np.nanmax(wide)), 1e-9)
    rows: list[list[Child | Cell]] = [
        [
            in_words(joint),
            *(Cell(figure(v), heat=None if np.isnan(v) else 0.85 * v / highest) for v in values),
        ]
        for joint, values in zip(JOINTS, wide.tolist(), strict=True)
    ]
    caption = "Mean |depth error| in cm after the correction; darker is larger."
    return table(["Joint", *found.cameras], rows, caption=caption, style="heat")


def _error_curves(found: Evidence) -> Markup:
    styled = [
        (m.name, style, found.of(m.key)[DEPTH].to_numpy(float))
        for m, style in zip(found.methods, sections.styles(found.methods), strict=True)
    ]
    drawn = sections.error_curve_figure(styled, UNIT, "test views")
    return picture(drawn, "Share of the test views whose mean |depth error| is at most that large.")


def _calibration(found: Evidence) -> Markup:
    expected, actual = (found.tested[c].to_numpy(float) for c in ("sim_expected_abs_dz_cm", DEPTH))
    drawn = scatter(
        expected,
        actual,
        "expected by the refiner (cm)",
        "measured (cm)",
        list(found.tested["id"]),
        "Expected and measured depth error of each test view",
    )
    return picture(drawn, "Does it know when it is wrong? Each test view; on the dashed line it does.")
