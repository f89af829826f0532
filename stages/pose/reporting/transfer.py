"""The pose page's section on a real estimator: its answers on calibrated videos, before and after the correction."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stages.core.data import tables
from stages.core.report.charts import columns
from stages.core.report.markup import Child, Markup, tag
from stages.core.report.page import Cell, Page, grid, note, picture, stack, table
from stages.core.report.wording import count, figure
from stages.pose.body.skeleton import JOINTS
from stages.pose.reporting.evidence import INPUT, MODEL, in_words

DEPTH = "real_mean_abs_dz_cm"
MEASURES = {
    DEPTH: "mean |depth error| (cm)",
    "real_mpjpe_mm": "MPJPE (mm)",
    "real_pa_mpjpe_mm": "PA-MPJPE (mm)",
    "real_limb_angle_deg": "direction of limbs (degrees)",
    "real_acceleration_error_mm": "acceleration error (mm per squared frame)",
}
TITLES = {
    MODEL: "depth refiner",
    "refiner_level": "depth refiner, poses turned level first",
    INPUT: "the estimator itself",
    "flat": "flat depth",
    "bias": "mean bias removed",
    "ridge": "ridge on one frame",
    "ridge_time": "ridge over time",
}


def add_transfer(page: Page, transfer: Path) -> dict[str, float]:
    """Add the section from the folder of pose-transfer; returns how many videos it rests on."""
    views, joints, truth = (
        tables.read_table(transfer / f"{name}.parquet") for name in ("transfer", "joints", "truth")
    )
    given, refined = (views[views["method"] == method] for method in (INPUT, MODEL))
    title = "A real estimator's answers"
    if given.empty or refined.empty:
        nothing = note(
            "n_videos 0: no calibrated videos were given, so that nothing is known of a real estimator here. "
            "Name a folder of them with ",
            tag("code", "plumbline use PROFILE --pose-videos DIR"),
            " (Pose2Sim's layout).",
        )
        page.add("transfer", title, nothing)
        return {"n_videos": 0}
    change = refined[DEPTH].mean() / given[DEPTH].mean() - 1
    said = (
        f"{count(len(given), 'video')} of {count(given['trial'].nunique(), 'trial')}, "
        f"{count(int(given['n_frames'].sum()), 'frame')} compared: mean |depth error| "
        f"{figure(given[DEPTH].mean())} cm before, {figure(refined[DEPTH].mean())} cm after "
        f"({100 * change:+.0f} %)."
    ).replace("-", "−")
    lead = (
        "The truth is triangulated from the cameras together and some centimetres off itself. One person before a "
        "few cameras says nothing of people at large: there are no intervals, and no claim rests on this. The "
        f"refiner was trained on {refined['model_dataset'].iloc[0]}, with simulated estimates."
    )
    content = stack(
        tag("p", tag("strong", said)),
        _by_camera(given, refined, truth),
        tag("h3", "By joint"),
        grid(_joint_chart(joints), _by_joint(joints)),
        tag("h3", "All methods"),
        _by_method(views),
    )
    page.add("transfer", title, content, lead=lead)
    return {"n_videos": len(given)}


def _by_camera(given: pd.DataFrame, refined: pd.DataFrame, truth: pd.DataFrame) -> Markup:
    key = ["trial", "cam"]
    merged = given.merge(refined, on=key, suffixes=("_before", "_after")).merge(truth, on=key)
    rows: list[list[Child | Cell]] = []
    for view in merged.to_dict("records"):
        pairs = [
            figure(view[f"{name}_{when}"])
            for name in (DEPTH, "real_mpjpe_mm", "real_pa_mpjpe_mm")
            for when in ("before", "after")
        ]
        rows.append(
            [view["trial"], view["cam"], view["n_frames_before"], *pairs, figure(view["reprojection_px"])]
        )
    headings = ["Trial", "Camera", "Frames", *("|dz| before (cm)", "after"), *("MPJPE before (mm)", "after")]
    headings += ["PA-MPJPE before (mm)", "after", "Truth: reprojection (px)"]
    return table(headings, rows, numeric=range(2, len(headings)))


def _joint_means(joints: pd.DataFrame, method: str, column: str) -> pd.Series:
    """Means over views, by joint, in the order of the skeleton; NaN where a joint was not compared."""
    part = joints[joints["method"] == method]
    return part.groupby("joint")[column].mean().reindex(JOINTS)


def _joint_chart(joints: pd.DataFrame) -> Markup:
    before, after = (_joint_means(joints, method, DEPTH) for method in (INPUT, MODEL))
    known = before.notna()
    drawn = columns(
        [in_words(joint) for joint in before.index[known]],
        [
            ("before", "before", before[known].to_numpy(float)),
            ("after", "prediction", after[known].to_numpy(float)),
        ],
        "joint",
        "mean |depth error| (cm)",
        "Mean depth error of each joint on real answers, before and after",
        slanted=True,
    )
    return picture(drawn, "Means over the videos; joints that were triangulated too rarely are left out.")


def _by_joint(joints: pd.DataFrame) -> Markup:
    found = {
        (name, method): _joint_means(joints, method, name)
        for name in (DEPTH, "real_mean_dz_cm")
        for method in (INPUT, MODEL)
    }
    rows: list[list[Child | Cell]] = [
        [
            in_words(joint),
            *(figure(found[DEPTH, method][joint]) for method in (INPUT, MODEL)),
            *(figure(found["real_mean_dz_cm", method][joint], signed=True) for method in (INPUT, MODEL)),
        ]
        for joint in JOINTS
        if pd.notna(found[DEPTH, INPUT][joint])
    ]
    headings = ["Joint", "|dz| before (cm)", "after", "Mean dz before (cm)", "after"]
    return table(headings, rows, numeric=range(1, 5), caption="Positive: too far from the camera.")


def _by_method(views: pd.DataFrame) -> Markup:
    means = views.groupby("method")[list(MEASURES)].mean()
    order = [name for name in TITLES if name in means.index]
    values = means.loc[order, list(MEASURES)].to_numpy(float).tolist()
    rows: list[list[Child | Cell]] = [
        [TITLES[name], *map(figure, row)] for name, row in zip(order, values, strict=True)
    ]
    return table(["Mean over the videos", *MEASURES.values()], rows, numeric=range(1, len(MEASURES) + 1))
