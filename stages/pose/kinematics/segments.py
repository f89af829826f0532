"""Frames of the body's segments, from the seventeen joints or from skin markers.

Every frame is right-handed and named alike on both sides; columns of a matrix (3, 3) are its axes:

      Y proximal, up                 x anterior, y towards the trunk (up while standing), z to the subject's
      |                              right, on the left side too: no frame is ever negated to serve a side.
      |                              A mirrored person has R' = M R M with M = diag(1, 1, -1).
      +------ X anterior
     /                               The vertical frame of points has the same axes: x any level direction
    Z the subject's right            that counts as forward, y up, z to the right of it.

Sources: Wu et al. 2002 and 2005 (ISB recommendations); where only joint centres are known the surrogates are
named below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.pose.body.skeleton import ARMS, HIPS, LEGS, SHOULDERS, mid

SIDES = ("left", "right")
"""In the order of the skeleton's pairs."""

BLEND_DEG = 15.0
"""A limb bent less than this does not show which way its hinge points: 1 cm of noise turns the hinge by 31
degrees at 5 degrees of bending, by 8 at 20."""


@dataclass(frozen=True)
class Segments:
    """Frames of N poses.

    Attributes:
        frames: segment -> (N, 3, 3). `pelvis`, `thorax` and, for either side, `left_femur`, `_tibia`,
            `_foot`, `_humerus`, `_forearm`; a segment that the points do not show is left out.
        certainty: segment -> (N,) in [0, 1], how well its turn about its long axis is known; 1 where a
            segment is not listed.
    """

    frames: Mapping[str, np.ndarray]
    certainty: Mapping[str, np.ndarray] = field(default_factory=dict)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; NaN where the length is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def long_axis_frame(y: np.ndarray, z_hint: np.ndarray) -> np.ndarray:
    """Frames (..., 3, 3) with exactly this y; z as near to the hint as that allows."""
    y = unit(y)
    x = unit(np.cross(y, z_hint))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def pelvis_frame(z: np.ndarray, x_hint: np.ndarray) -> np.ndarray:
    """Frames (..., 3, 3) with exactly this z; x as near to the hint as that allows."""
    z = unit(z)
    y = unit(np.cross(z, x_hint))
    return np.stack([np.cross(y, z), y, z], axis=-1)


def foot_frame(x: np.ndarray, z_hint: np.ndarray) -> np.ndarray:
    """Frames (..., 3, 3) with exactly this x; z as near to the hint as that allows."""
    x = unit(x)
    y = unit(np.cross(z_hint, x))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def segments_of_joints(points: np.ndarray, feet: np.ndarray | None = None) -> Segments:
    """Frames from the seventeen joints alone, and from heels and toes where an estimator sees them.

    Pelvis: the hip line, and forward of trunk and hip line: its tilt is the trunk's. Thigh and upper arm turn
    about their long axes as the hinge of knee and elbow shows, see `hinge_axis`; shin and forearm share that
    hinge.

    Args:
        points: (N, 17, 3) in any unit and any right-handed frame.
        feet: (N, 2, 2, 3) left and right foot, each heel and toe; see `joint_angles`.
    """
    left, right = (points[:, SHOULDERS[side]] for side in (0, 1))
    hip_line = points[:, HIPS[1]] - points[:, HIPS[0]]
    trunk = mid(points, SHOULDERS) - mid(points, HIPS)
    frames = {
        "pelvis": pelvis_frame(hip_line, np.cross(unit(trunk), hip_line)),
        "thorax": long_axis_frame(trunk, right - left),
    }
    certainty = {}
    for parent, limbs, upper_name, lower_name in (
        ("pelvis", LEGS, "femur", "tibia"),
        ("thorax", ARMS, "humerus", "forearm"),
    ):
        for side, (root, middle, end) in zip(SIDES, limbs, strict=True):
            upper = unit(points[:, root] - points[:, middle])
            lower = unit(points[:, middle] - points[:, end])
            z, weight = hinge_axis(frames[parent], upper, lower, signed=parent == "thorax")
            for name, axis in ((upper_name, upper), (lower_name, lower)):
                frames[f"{side}_{name}"] = long_axis_frame(axis, z)
                certainty[f"{side}_{name}"] = weight
    if feet is not None:
        for k, side in enumerate(SIDES):
            tibia = frames[f"{side}_tibia"]
            frames[f"{side}_foot"] = foot_frame(feet[:, k, 1] - feet[:, k, 0], tibia[..., 2])
    return Segments(frames, certainty)


def hinge_axis(
    parent: np.ndarray, upper: np.ndarray, lower: np.ndarray, signed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The axis (N, 3) about which a limb bends, perpendicular to its upper half, and its certainty (N,).

    A limb bent by less than `BLEND_DEG` tells little: the axis is then turned towards the parent's z, carried
    to the limb by the smallest rotation, in proportion; a straight limb takes that altogether.

    Args:
        parent: (N, 3, 3) frames of pelvis or thorax.
        upper, lower: (N, 3) y of both halves, length 1.
        signed: for elbows, which bend one way only, so that the bending itself is the axis's sign and it may
            point anywhere around the arm. A knee's axis is kept on the side of the parent's z, for an
            estimate may bend it forwards a little.
    """
    carried = swing(parent[..., 1], upper, parent[..., 2])
    hinge = np.cross(upper, lower)
    across = np.cross(upper, carried)
    turn = np.arctan2((hinge * across).sum(-1), (hinge * carried).sum(-1))
    if not signed:
        turn = np.where(np.abs(turn) > np.pi / 2, turn - np.copysign(np.pi, turn), turn)
    weight = np.clip(bend_deg(upper, lower) / BLEND_DEG, 0, 1)
    turn = (weight * turn)[:, None]
    return np.cos(turn) * carried + np.sin(turn) * across, weight


def swing(start: np.ndarray, end: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, 3) turned by the smallest rotation that takes `start` to `end` (both (N, 3), length 1)."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(-1, keepdims=True)
    once = np.cross(axis, vectors)
    return vectors + once + np.cross(axis, once) / np.maximum(1 + cosine, 1e-12)


def bend_deg(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Angles (...) between vectors (..., 3), degrees: how far a limb is from straight."""
    sine = np.linalg.norm(np.cross(upper, lower), axis=-1)
    return np.degrees(np.arctan2(sine, (upper * lower).sum(-1)))


def segments_of_markers(markers: Mapping[str, np.ndarray]) -> Segments:
    """Frames from the 65 markers of the augmenter, by name; (N, 3) each.

    Surrogates: the thorax's long axis runs from the hip centres to the shoulders (C7 alone leans it back by
    some nine degrees).
    """
    hips, shoulders, elbows = {}, {}, {}
    frames: dict[str, np.ndarray] = {}
    for side, mark in zip(SIDES, "Lr", strict=True):
        right = 1 if side == "right" else -1
        get = {
            part: markers[f"{mark}_{part}_study"]
            for part in (
                *("knee", "mknee", "ankle", "mankle", "toe", "5meta", "calc"),
                *("shoulder", "lelbow", "melbow", "lwrist", "mwrist"),
            )
        }
        hips[side] = markers[f"{mark.upper()}HJC_study"]
        shoulders[side] = get["shoulder"]
        knee, ankle, elbows[side], wrist = (
            (get[outer] + get[inner]) / 2
            for outer, inner in (
                ("knee", "mknee"),
                ("ankle", "mankle"),
                ("lelbow", "melbow"),
                ("lwrist", "mwrist"),
            )
        )
        axes = {
            "femur": (hips[side] - knee, get["knee"] - get["mknee"]),
            "tibia": (knee - ankle, get["ankle"] - get["mankle"]),
            "humerus": (shoulders[side] - elbows[side], get["lelbow"] - get["melbow"]),
            "forearm": (elbows[side] - wrist, get["lwrist"] - get["mwrist"]),
        }
        frames |= {f"{side}_{name}": long_axis_frame(y, right * out) for name, (y, out) in axes.items()}
        frames[f"{side}_foot"] = foot_frame(get["toe"] - get["calc"], right * (get["5meta"] - get["toe"]))
    left_asis, right_asis = markers["L.ASIS_study"], markers["r.ASIS_study"]
    psis = (markers["L.PSIS_study"] + markers["r.PSIS_study"]) / 2
    frames["pelvis"] = pelvis_frame(right_asis - left_asis, (left_asis + right_asis) / 2 - psis)
    trunk = (shoulders["left"] + shoulders["right"] - hips["left"] - hips["right"]) / 2
    frames["thorax"] = long_axis_frame(trunk, shoulders["right"] - shoulders["left"])
    return Segments(frames)
