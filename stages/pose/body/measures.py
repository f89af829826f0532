"""Errors of poses against labels, in the camera's frame, root-relative.

Input is in metres; the unit of a result is in the function's name.

Poses are (n, 17, 3); functions return one value a frame unless they say otherwise. Nothing is aligned with
the truth except where the name says so (`pa_`, `after_rotation`).
"""

from __future__ import annotations

import numpy as np

from stages.pose.body.frames import azimuth_elevation, body_axes
from stages.pose.body.skeleton import LIMBS, bone_lengths

_MM, _CM = 1000.0, 100.0

FLIP_DEG = 90.0
"""An azimuth that is farther off than this takes the front of a body for its back."""


def abs_dz_cm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 17) absolute depth errors."""
    return _CM * np.abs(predicted[..., 2] - truth[..., 2])


def joint_errors_mm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 17) distances; their mean is the MPJPE."""
    return _MM * np.linalg.norm(predicted - truth, axis=-1)


def pa_mpjpe_mm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n,) mean joint error after the best similarity (rotation, scale, shift) of each frame."""
    return joint_errors_mm(align(predicted, truth), truth).mean(1)


def align(predicted: np.ndarray, truth: np.ndarray, scaled: bool = True, shifted: bool = True) -> np.ndarray:
    """The poses (n, 17, 3) moved onto the truth by each frame's best proper rotation, scale and shift.

    Least squares after Umeyama (1991). Without a shift the rotation is about the root.
    """
    zero = np.zeros((len(predicted), 1, 3))
    centre_p = predicted.mean(1, keepdims=True) if shifted else zero
    centre_t = truth.mean(1, keepdims=True) if shifted else zero
    p, t = predicted - centre_p, truth - centre_t
    u, s, vh = np.linalg.svd(np.einsum("nki,nkj->nij", t, p))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vh))
    rotation = (u * sign[:, None, :]) @ vh
    scale = (s * sign).sum(1) / np.maximum((p**2).sum((1, 2)), 1e-12) if scaled else np.ones(len(p))
    return scale[:, None, None] * np.einsum("nij,nkj->nki", rotation, p) + centre_t


def after_rotation_abs_dz_cm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 17) absolute depth errors that remain after the best rotation about the root."""
    return abs_dz_cm(align(predicted, truth, scaled=False, shifted=False), truth)


def limb_angles_deg(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 8) angles between predicted and true directions of the limbs."""
    parents, children = zip(*LIMBS, strict=True)
    p = predicted[:, children] - predicted[:, parents]
    t = truth[:, children] - truth[:, parents]
    cosine = (p * t).sum(-1) / np.maximum(np.linalg.norm(p, axis=-1) * np.linalg.norm(t, axis=-1), 1e-12)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def acceleration_error_mm(predicted: np.ndarray, truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(m,) mean distance of accelerations, mm per squared frame interval, of m triples of frames in a row.

    `frames` (n,) are the frame numbers of one view; where one is missing, no triple is formed.
    """
    steps = np.diff(frames)
    if len(steps) < 2:
        return np.empty(0)
    consecutive = (steps[1:] == steps.min()) & (steps[:-1] == steps.min())
    difference = predicted - truth
    second = difference[2:] - 2 * difference[1:-1] + difference[:-2]
    return _MM * np.linalg.norm(second, axis=-1).mean(1)[consecutive]


def bone_variation_percent(pose: np.ndarray) -> float:
    """Coefficient of variation of the bone lengths of one person, mean over bones: rigid bodies have 0."""
    lengths = bone_lengths(pose)
    return float(100 * np.mean(lengths.std(0) / np.maximum(lengths.mean(0), 1e-12)))


def angular_difference_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Absolute difference in [0, 180] of angles in degrees, the short way round."""
    return np.abs((a - b + 180) % 360 - 180)


def view_angle_errors_deg(
    predicted: np.ndarray, truth: np.ndarray, view_dir: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of azimuth and of elevation of the camera, as seen from the body; NaN for a flat trunk.

    A pose says where the camera stands by the attitude of its trunk. The line of sight to the trunk, which a
    calibrated picture shows, is the same for every pose: it is taken from the label.

    Args:
        view_dir: (n, 3) the label's view direction in the body frame; see `frames.view_direction`.
    """
    towards_camera = np.einsum("nij,ni->nj", body_axes(truth), view_dir)
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = np.einsum("nij,nj->ni", body_axes(predicted), towards_camera)
    (azimuth, elevation), (true_azimuth, true_elevation) = (azimuth_elevation(d) for d in (seen, view_dir))
    return angular_difference_deg(azimuth, true_azimuth), np.abs(elevation - true_elevation)


def flips_percent(azimuth_errors_deg: np.ndarray) -> float:
    """Share of frames whose azimuth is on the other side: front taken for back."""
    finite = azimuth_errors_deg[np.isfinite(azimuth_errors_deg)]
    return float(100 * np.mean(finite > FLIP_DEG)) if finite.size else float("nan")
