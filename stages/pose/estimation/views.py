"""One camera of one trial, and how near to the triangulated poses each method comes in it.

`level` methods see the person as a level camera would: cameras that look down on people show them leaning,
which a refiner that learned from level ones takes for the estimator's error. It needs the camera's attitude,
which a telephone knows, and no label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.pose.body import measures
from stages.pose.body.frames import Camera, root_relative
from stages.pose.body.skeleton import JOINTS
from stages.pose.estimation.extraction import Estimates
from stages.pose.estimation.multiview import UP
from stages.pose.estimation.truth import Truth
from stages.pose.model.floors import FLOORS, Floors
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import pixels_to_metres
from stages.pose.simulation.packed import PackedRole

METHOD = "refiner"
LEVEL = "_level"
"""At the end of a method's name: it saw the person from a level camera."""

MEASURES = {
    "real_mean_abs_dz_cm": "cm, camera frame, root-relative, against the triangulated pose",
    "real_sd_dz_cm": "cm",
    "real_mpjpe_mm": "mm, root-relative",
    "real_pa_mpjpe_mm": "mm, after the best similarity of each frame",
    "real_limb_angle_deg": "degrees between triangulated and given directions of the limbs",
    "real_acceleration_error_mm": "mm per squared frame interval",
    "real_share_removed_by_rotation": "of the mean depth error, by each frame's best rotation",
}
JOINT_MEASURES = {
    "real_mean_abs_dz_cm": "cm",
    "real_mean_dz_cm": "cm, positive: too far away",
    "real_mpjpe_mm": "mm",
}


@dataclass(frozen=True)
class View:
    """What was estimated in one camera of one trial, and what the cameras together say.

    Attributes:
        counts: of `extraction.extract`.
        triangulated: (T, 17, 3) metres, camera frame, root-relative; NaN where unknown.
    """

    trial: str
    camera: Camera
    estimates: Estimates
    counts: dict[str, float]
    truth: Truth
    triangulated: np.ndarray


@dataclass(frozen=True)
class Method:
    """`predict`: (role, rows (B,)) -> poses (B, 17, 3) in metres; `level`: see the module's docstring."""

    predict: Callable[[PackedRole, np.ndarray], np.ndarray]
    level: bool = False


def make_methods(refiner: Refiner, floors: Floors | None, fps: float) -> dict[str, Method]:
    """The refiner, and those floors that can be had; `identity` is the estimator itself."""

    def floor(name: str) -> Callable[[PackedRole, np.ndarray], np.ndarray]:
        return lambda role, rows: (floors or Floors({})).predict(name, role, rows)

    def refine(role: PackedRole, rows: np.ndarray) -> np.ndarray:
        return refiner.refine_rows(role, rows, fps, 1)[0]

    return {
        METHOD: Method(refine),
        METHOD + LEVEL: Method(refine, level=True),
        **{name: Method(floor(name)) for name in (FLOORS if floors else ("identity", "flat"))},
    }


def levelling(camera: Camera) -> np.ndarray:
    """Rotation (3, 3) from a camera's axes to those of a level one: same heading, y straight down."""
    down = -camera.rotation @ UP
    right = np.cross(down, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, down, np.cross(right, down)])


def as_role(view: View, rotation: np.ndarray | None = None) -> PackedRole:
    """A view's frames with a person, in the form in which models read the packed set.

    Args:
        rotation: (3, 3) applied to the poses. The pixels are then replaced by where they put the joints in
            metres, at the estimated depths; their unit does not matter to a model.
    """
    rows = np.flatnonzero(view.estimates.detected)
    pose = root_relative(view.estimates.pose[rows])
    visibility, uv = view.estimates.visibility[rows], view.estimates.uv_px[rows]
    if rotation is not None:
        across = pixels_to_metres(pose, visibility, uv)
        uv = (np.concatenate([across, pose[..., 2:]], axis=-1) @ rotation.T)[..., :2]
        pose = pose @ rotation.T
    columns = {
        "sim_pose": pose.astype(np.float32),
        "sim_visibility": visibility.astype(np.float32),
        "sim_uv_px": uv.astype(np.float32),
        "frame": rows.astype(np.int32),
    }
    return PackedRole("real", columns, pd.DataFrame({"first_row": [0], "n_rows": [len(rows)]}))


def judge(view: View, methods: dict[str, Method]) -> tuple[list[dict], list[dict]]:
    """Rows of transfer.parquet and joints.parquet of one view, apart from what names the model.

    Joints that the trial does not compare are left out, and so are frames in which one of the others is not
    known. There are no rows where no frame is left.
    """
    compared = view.truth.compared
    known = np.isfinite(view.triangulated[:, compared]).all((1, 2)) & view.estimates.detected
    frames = np.flatnonzero(known)
    if not len(frames) or not compared.any():
        return [], []
    truth = np.where(compared[:, None], view.triangulated[frames], np.nan)
    rotation = levelling(view.camera)
    rows = np.flatnonzero(known[view.estimates.detected])
    measured, joints = [], []
    for name, method in methods.items():
        if method.level:
            pose = method.predict(as_role(view, rotation), rows) @ rotation
        else:
            pose = method.predict(as_role(view), rows)
        pose = np.asarray(pose, np.float64)
        facts = {"trial": view.trial, "cam": view.camera.name, "method": name}
        found = measure(pose, truth, frames, compared)
        measured.append({**facts, "n_frames": len(frames), "n_joints": int(compared.sum()), **found})
        joints += [{**facts, **row} for row in _by_joint(pose, truth, compared)]
    return measured, joints


def measure(
    pose: np.ndarray, truth: np.ndarray, frames: np.ndarray, compared: np.ndarray
) -> dict[str, float]:
    """MEASURES of poses (n, 17, 3) of the frames numbered (n,), over the joints `compared` (17,)."""
    limbs = measures.limb_angles_deg(pose, truth)
    pose, truth = pose[:, compared], truth[:, compared]
    depth = measures.abs_dz_cm(pose, truth).mean()
    acceleration = measures.acceleration_error_mm(pose, truth, frames)
    values = (
        depth,
        100 * (pose - truth)[..., 2].std(),
        measures.joint_errors_mm(pose, truth).mean(),
        measures.pa_mpjpe_mm(pose, truth).mean(),
        np.nanmean(limbs) if np.isfinite(limbs).any() else np.nan,
        acceleration.mean() if acceleration.size else np.nan,
        1 - measures.after_rotation_abs_dz_cm(pose, truth).mean() / max(depth, 1e-9),
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def _by_joint(pose: np.ndarray, truth: np.ndarray, compared: np.ndarray) -> list[dict]:
    dz = 100 * (pose - truth)[..., 2]
    means = (np.abs(dz).mean(0), dz.mean(0), measures.joint_errors_mm(pose, truth).mean(0))
    return [
        {
            "joint": JOINTS[joint],
            **{name: values[joint] for name, values in zip(JOINT_MEASURES, means, strict=True)},
        }
        for joint in np.flatnonzero(compared)
    ]
