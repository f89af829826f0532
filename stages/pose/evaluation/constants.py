"""How well constants tell where the camera stands: what a pose has to beat for its view angles to be news."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stages.pose.body.frames import azimuth_elevation
from stages.pose.body.measures import angular_difference_deg
from stages.pose.evaluation.judge import view_angle_measures
from stages.pose.simulation.packed import PackedRole

CONSTANTS = ("mean", "camera_mean")
"""The training role's mean view, over all cameras and of the same camera."""


def mean_view(view_dir: np.ndarray) -> tuple[float, float]:
    """Mean azimuth (on the circle) and mean elevation in degrees of view directions (n, 3)."""
    azimuth, elevation = azimuth_elevation(np.asarray(view_dir, np.float64))
    circle = np.exp(1j * np.radians(azimuth)).mean()
    return float(np.degrees(np.angle(circle)) % 360), float(elevation.mean())


def constant_errors(train: PackedRole, judged: PackedRole) -> pd.DataFrame:
    """Rows of constants.parquet: errors of each constant on each view of a role.

    A camera that training never saw has the mean over all cameras.
    """
    view_dir, cam = np.asarray(train["view_dir"]), np.asarray(train["cam"])
    overall = mean_view(view_dir)
    by_camera = {int(number): mean_view(view_dir[cam == number]) for number in np.unique(cam)}
    rows = []
    for view in judged.views.to_dict("records"):
        where = slice(view["first_row"], view["first_row"] + view["n_rows"])
        azimuth, elevation = azimuth_elevation(np.asarray(judged["view_dir"][where], np.float64))
        own = by_camera.get(int(judged["cam"][view["first_row"]]), overall)
        for name, (a, e) in zip(CONSTANTS, (overall, own), strict=True):
            errors = view_angle_measures(
                angular_difference_deg(azimuth, np.full_like(azimuth, a)), np.abs(elevation - e)
            )
            facts = {key: view[key] for key in ("id", "cam", "group", "role")}
            rows.append({**facts, "constant": name, **errors})
    return pd.DataFrame(rows)
