"""Every measure of every method on every view of a role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.pose.body import measures
from stages.pose.body.frames import azimuth_elevation
from stages.pose.body.skeleton import JOINTS, N_JOINTS
from stages.pose.capture.checks import Flag
from stages.pose.evaluation.schemas import ANGLE_SCHEMA, FACTS, JOINT_SCHEMA, PARTS, Judged
from stages.pose.kinematics.angles import camera_to_vertical, joint_angles
from stages.pose.simulation.packed import PackedRole

Predict = Callable[[PackedRole, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""(role, rows) -> poses (B, 17, 3) and, where the method says so, expected |dz| (B, 17); metres"""

_VISIBILITY_ROWS = 20_000
"""The thirds of the visibilities are taken from so many rows at most, evenly spread."""


@dataclass(frozen=True)
class Label:
    """What is true of a view of n frames, and how its joints and frames are told apart.

    Attributes:
        pose: (n, 17, 3) metres, float64; view_dir: (n, 3); frames: (n,) their numbers.
        inverted: (n,) bool.
        parts: part -> (n, 17) position of the bin in `schemas.PARTS`.
    """

    pose: np.ndarray
    view_dir: np.ndarray
    frames: np.ndarray
    inverted: np.ndarray
    parts: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, role: PackedRole, rows: np.ndarray, thirds: np.ndarray) -> Label:
        """The label of packed rows; `thirds` (2,) are the limits between low, middle and high visibility."""
        view_dir = np.asarray(role["view_dir"][rows], np.float64)
        inverted = (np.asarray(role["flags"][rows]) & Flag.INVERTED) > 0
        azimuth = azimuth_bin(azimuth_elevation(view_dir)[0])
        every_joint = np.ones(N_JOINTS, int)
        parts = {
            "azimuth": azimuth[:, None] * every_joint,
            "visibility": np.searchsorted(thirds, np.asarray(role["sim_visibility"][rows])),
            "posture": inverted[:, None] * every_joint,
        }
        pose = np.asarray(role["gt_pose"][rows], np.float64)
        return cls(pose, view_dir, np.asarray(role["frame"][rows]), inverted, parts)


def azimuth_bin(azimuth_deg: np.ndarray) -> np.ndarray:
    """Positions (n,) in PARTS["azimuth"] of azimuths in degrees: bins of 45 degrees, the first around 0."""
    n = len(PARTS["azimuth"])
    return np.floor(azimuth_deg / (360 / n) + 0.5).astype(int) % n


def visibility_thirds(role: PackedRole) -> np.ndarray:
    """(2,) the limits between the low, middle and high third of a role's visibilities."""
    kept = role["sim_visibility"][:: max(1, len(role) // _VISIBILITY_ROWS)]
    return np.quantile(np.asarray(kept), [1 / 3, 2 / 3])


def judge(
    role: PackedRole, methods: Mapping[str, Predict], progress: Callable[[int, int, str], None]
) -> Judged:
    """Judge every method on every view of a role; errors are means over a view's frames."""
    views: list[dict[str, Any]] = []
    angles: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    thirds = visibility_thirds(role)
    for done, view in enumerate(role.views.to_dict("records"), start=1):
        rows = np.arange(view["first_row"], view["first_row"] + view["n_rows"])
        label = Label.read(role, rows, thirds)
        given = {name: predict(role, rows) for name, predict in methods.items()}
        poses = {name: np.asarray(pose, np.float64) for name, (pose, _) in given.items()}
        facts: dict[str, Any] = {str(name): view[name] for name in FACTS}
        of_view = {name: view[name] for name in ("id", "group", "role")}
        by_angle = angle_errors(poses, label.pose)
        for method, pose in poses.items():
            depth, distance = measures.abs_dz_cm(pose, label.pose), measures.joint_errors_mm(pose, label.pose)
            found = view_measures(pose, label, depth, distance, given[method][1])
            found["sim_joint_angle_deg"] = float(by_angle[method].mean())
            views.append({**facts, "method": method, "n_frames": len(rows), **found})
            angles += [
                {**of_view, "method": method, "angle": angle, "sim_joint_angle_deg": error}
                for angle, error in by_angle[method].items()
            ]
            parts += [{**of_view, "method": method, **row} for row in _parts(label, depth, distance)]
            tally = sums.setdefault((view["role"], method, view["cam"]), np.zeros((3, N_JOINTS)))
            tally += [np.full(N_JOINTS, len(rows)), depth.sum(0), distance.sum(0)]
        progress(done, len(role.views), f"views of {role.role}")
    joints = [
        (*key, joint, int(n), dz / n, mm / n)
        for key, (count, depths, distances) in sorted(sums.items())
        for joint, n, dz, mm in zip(JOINTS, count, depths, distances, strict=True)
    ]
    return Judged(
        pd.DataFrame(views),
        pd.DataFrame(joints, columns=JOINT_SCHEMA.names),
        pd.DataFrame(angles, columns=ANGLE_SCHEMA.names),
        pd.DataFrame(parts),
    )


def view_measures(
    pose: np.ndarray, label: Label, depth: np.ndarray, distance: np.ndarray, expected: np.ndarray | None
) -> dict[str, float]:
    """Measures by name of poses (n, 17, 3) of one view; joint angles apart.

    Args:
        depth: (n, 17) absolute depth errors in cm; distance: (n, 17) joint errors in mm.
        expected: (n, 17) the depth errors that the method expects, metres; None where it does not say.
    """
    azimuth, elevation = measures.view_angle_errors_deg(pose, label.pose, label.view_dir)
    return {
        "sim_mean_abs_dz_cm": depth.mean(),
        "sim_mpjpe_mm": distance.mean(),
        "sim_pa_mpjpe_mm": measures.pa_mpjpe_mm(pose, label.pose).mean(),
        "sim_limb_angle_deg": measures.limb_angles_deg(pose, label.pose).mean(),
        "sim_acceleration_error_mm": _mean(measures.acceleration_error_mm(pose, label.pose, label.frames)),
        "sim_bone_variation_percent": measures.bone_variation_percent(pose),
        **view_angle_measures(azimuth, elevation),
        "sim_expected_abs_dz_cm": np.nan if expected is None else 100 * expected.mean(),
        "sim_inverted_abs_dz_cm": _mean(depth[label.inverted]),
    }


def view_angle_measures(azimuth: np.ndarray, elevation: np.ndarray) -> dict[str, float]:
    """What `schemas.VIEW_ANGLES` names, from errors (n,) in degrees; frames without one (NaN) do not count."""
    azimuth, elevation = (error[np.isfinite(error)] for error in (azimuth, elevation))
    return {
        "sim_azimuth_median_deg": float(np.median(azimuth)) if azimuth.size else float("nan"),
        "sim_front_back_flips_percent": measures.flips_percent(azimuth),
        "sim_elevation_mae_deg": _mean(elevation),
    }


def angle_errors(poses: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, pd.Series]:
    """Method -> mean error in degrees of each observable joint angle over the frames of a view.

    Frames count by the confidence of the *label's* angle: where a limb is straight its turn says nothing, and
    no method can choose which frames count. An angle that the label never shows is NaN.

    Args:
        poses: method -> (n, 17, 3); truth: (n, 17, 3), both in the camera's frame, whose vertical is taken to
            be the vertical: a camera that looks down turns label and estimate alike.
    """
    n = len(truth)
    stacked = np.concatenate([truth, *poses.values()])
    found = joint_angles(camera_to_vertical(stacked))
    names = np.array(found.names)[found.observable]
    values = found.values[:, found.observable].reshape(len(poses) + 1, n, len(names))
    weight = found.confidence[:n, found.observable]
    errors = {}
    for method, given in zip(poses, values[1:], strict=True):
        off = measures.angular_difference_deg(given, values[0])
        counts = np.where(np.isfinite(off), weight, 0)
        total = counts.sum(0)
        mean = np.where(total > 0, (counts * np.nan_to_num(off)).sum(0) / np.maximum(total, 1e-12), np.nan)
        errors[method] = pd.Series(mean, index=names)
    return errors


def _parts(label: Label, depth: np.ndarray, distance: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row for each bin of each part that has samples in the view."""
    for part, bins in PARTS.items():
        where = label.parts[part].ravel()
        count, depths, distances = (
            np.bincount(where, weights, len(bins)) for weights in (None, depth.ravel(), distance.ravel())
        )
        for k in np.flatnonzero(count):
            yield {
                "part": part,
                "bin": bins[k],
                "n_samples": int(count[k]),
                "sim_mean_abs_dz_cm": depths[k] / count[k],
                "sim_mpjpe_mm": distances[k] / count[k],
            }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
