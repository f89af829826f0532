"""Joint angles in degrees, in the ISB's senses, from points or markers.

    points -> segment frames (segments.py) -> relative rotation of each joint -> three angles

Left joints are read from the mirrored rotation M R M, M = diag(1, 1, -1), so that a number means the same on
both sides. Angles are for reporting: nothing is clamped, zeroed or smoothed.

    joint      sequence  angles, positive
    pelvis     YXZ       rotation to the left, obliquity with the right side down, posterior tilt; against
                         the vertical frame (Baker 2001)
    hip        ZXY       flexion, adduction, internal rotation
    knee       ZXY       flexion, varus, internal rotation of the shin (Grood and Suntay 1983)
    ankle      ZXY       dorsiflexion, inversion, internal rotation
    trunk      ZXY       flexion, bend to the right, rotation to the left; thorax against pelvis
    shoulder   YXY       plane of elevation (0 sideways, 90 forward), elevation, axial (internal) rotation;
                         against the thorax (Wu 2005). The first and last lose their meaning at 0 and 180
    elbow      ZXY       flexion, carrying angle, pronation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import Camera
from stages.pose.body.skeleton import JOINT, N_JOINTS
from stages.pose.kinematics.markers import LOWER, UPPER, feet_of_markers, joints_of_markers
from stages.pose.kinematics.segments import (
    Segments,
    long_axis_frame,
    segments_of_joints,
    segments_of_markers,
)


@dataclass(frozen=True)
class Joint:
    """One joint: the segments that it connects (no parent: the vertical frame), how and what is read from it.

    Attributes:
        signs: of the three Euler angles, on the right side.
        seen_by: the joints of the skeleton that the angles rest on.
        turn_seen_by: the joints that, beyond those, show the third angle, where it is the child's turn about
            its long axis.
    """

    name: str
    parent: str | None
    child: str
    sequence: str
    angles: tuple[str, str, str]
    signs: tuple[int, int, int]
    seen_by: tuple[str, ...]
    turn_seen_by: tuple[str, ...] = ()


_TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def _sided(joint: Joint) -> list[Joint]:
    """The joint on the right and on the left."""
    trunk = ("pelvis", "thorax")
    return [
        Joint(
            f"{side}_{joint.name}",
            joint.parent if joint.parent in trunk else f"{side}_{joint.parent}",
            f"{side}_{joint.child}",
            joint.sequence,
            joint.angles,
            joint.signs,
            tuple(name if name in _TRUNK else f"{side}_{name}" for name in joint.seen_by),
            tuple(f"{side}_{name}" for name in joint.turn_seen_by),
        )
        for side in ("right", "left")
    ]


CHAIN: tuple[Joint, ...] = (
    Joint("pelvis", None, "pelvis", "YXZ", ("rotation", "obliquity", "tilt"), (1, 1, 1), _TRUNK),
    *_sided(Joint("hip", "pelvis", "femur", "ZXY", ("flexion", "adduction", "internal_rotation"), (1, 1, 1),
                  (*_TRUNK, "knee"), ("ankle",))),
    *_sided(Joint("knee", "femur", "tibia", "ZXY", ("flexion", "varus", "internal_rotation"), (-1, 1, 1),
                  ("hip", "knee", "ankle"))),
    *_sided(Joint("ankle", "tibia", "foot", "ZXY", ("dorsiflexion", "inversion", "internal_rotation"), (1, 1, 1),
                  ("knee", "ankle"))),
    Joint("trunk", "pelvis", "thorax", "ZXY", ("flexion", "right_bend", "left_rotation"), (-1, 1, 1),
          _TRUNK),
    *_sided(Joint("shoulder", "thorax", "humerus", "YXY",
                  ("plane_of_elevation", "elevation", "axial_rotation"), (1, 1, 1),
                  (*_TRUNK, "elbow"), ("wrist",))),
    *_sided(Joint("elbow", "humerus", "forearm", "ZXY", ("flexion", "carrying", "pronation"), (1, 1, 1),
                  ("shoulder", "elbow", "wrist"))),
)  # fmt: skip
"""Pelvis, hips, knees, ankles, trunk, shoulders and elbows; the right one of two first."""

ANGLE_NAMES: tuple[str, ...] = tuple(f"{joint.name}_{angle}" for joint in CHAIN for angle in joint.angles)
"""(36,) three a joint of `CHAIN`."""
N_ANGLES = len(ANGLE_NAMES)

_GIMBAL_SINE = np.sin(np.radians(15))
"""Nearer to the pole of a sequence than 15 degrees, its outer angles count less."""

_HIDDEN_FROM_JOINTS = (
    *("pelvis_tilt", "trunk_flexion"),
    *(f"knee_{angle}" for angle in ("varus", "internal_rotation")),
    *(f"elbow_{angle}" for angle in ("carrying", "pronation")),
    *(f"ankle_{angle}" for angle in ("inversion", "internal_rotation")),
)
"""What joint centres cannot tell: without the pelvis's own markers its tilt is the trunk's, and a hinge that
was fitted to a limb leaves nothing but its bending."""


@dataclass(frozen=True)
class Angles:
    """Joint angles of N poses.

    Attributes:
        values: (N, 36) degrees; NaN where the points show nothing of an angle (ankles of seventeen joints, a
            joint that is missing).
        names: (36,) see `ANGLE_NAMES`.
        observable: (36,) which angles this set of points can tell at all; the others are by construction of the
            frames, and no model is to be trained on or judged by them.
        confidence: (N, 36) in [0, 1]: 0 where not observable or NaN, lower for turns about the long axis of
            a nearly straight limb and near the poles of a sequence; times the least visibility of the joints
            that an angle rests on.
    """

    values: np.ndarray
    names: tuple[str, ...]
    observable: np.ndarray
    confidence: np.ndarray


def joint_angles(
    points: np.ndarray, visibility: np.ndarray | None = None, feet: np.ndarray | None = None
) -> Angles:
    """Angles of poses of seventeen joints.

    Args:
        points: (N, 17, 3) in any unit, in a vertical frame: x forward, y up, z right (`camera_to_vertical`,
            `world_to_vertical`). All but the pelvis's three angles are the same in any right-handed frame,
            the camera's included.
        visibility: (N, 17) in [0, 1]; lowers the confidence.
        feet: (N, 2, 2, 3) left and right foot, each the heel and the tip of the foot, in the points' frame,
            as an estimator saw them (MediaPipe 29 to 32); without them there is no ankle angle.
    Raises:
        StageError: arrays of other shapes.
    """
    points = np.asarray(points, np.float64)
    _check("points", points, (len(points), N_JOINTS, 3))
    if feet is not None:
        feet = np.asarray(feet, np.float64)
        _check("feet", feet, (len(points), 2, 2, 3))
    hidden = set(_HIDDEN_FROM_JOINTS) | ({"ankle_dorsiflexion"} if feet is None else set())
    observable = np.array([_without_side(name) not in hidden for name in ANGLE_NAMES])
    angles = angles_of_segments(segments_of_joints(points, feet), observable)
    if visibility is None:
        return angles
    _check("visibility", np.asarray(visibility), (len(points), N_JOINTS))
    seen = [
        np.asarray(visibility)[:, [JOINT[name] for name in names]].min(1)
        for joint in CHAIN
        for names in (joint.seen_by, joint.seen_by, (*joint.seen_by, *joint.turn_seen_by))
    ]
    confidence = angles.confidence * np.stack(seen, axis=1)
    return Angles(angles.values, angles.names, angles.observable, confidence)


def marker_angles(markers: Mapping[str, np.ndarray], feet_observed: bool = True) -> Angles:
    """Angles of poses given by markers, by name; (N, 3) each, in a vertical frame.

    The augmenter's sixty-five show all angles; where it made them up from twenty-two points, the turns about
    long axes and the pelvis's tilt are what it learnt, not what was seen. The twenty-two of
    `markers_of_joints` show what the joints do and, with feet that were seen, ankle dorsiflexion.

    Args:
        feet_observed: False where heels and toes are templates: they are then left out.
    Raises:
        StageError: naming the markers that are missing.
    """
    if all(name in markers for name in (*LOWER, *UPPER)):
        return angles_of_segments(segments_of_markers(markers), np.ones(N_ANGLES, bool))
    feet = feet_of_markers(markers) if feet_observed else None
    return joint_angles(joints_of_markers(markers), feet=feet)


def angles_of_segments(segments: Segments, observable: np.ndarray) -> Angles:
    """Read every joint of `CHAIN` from frames; what they lack is NaN."""
    n = len(segments.frames["pelvis"])
    values = np.full((n, len(CHAIN), 3), np.nan)
    confidence = np.ones((n, len(CHAIN), 3))
    for k, joint in enumerate(CHAIN):
        if joint.child not in segments.frames:
            continue
        rotation = segments.frames[joint.child]
        if joint.parent is not None:
            rotation = np.swapaxes(segments.frames[joint.parent], -1, -2) @ rotation
        if joint.name.startswith("left_"):
            rotation = mirror_rotation(rotation)
        angles = euler_deg(rotation, joint.sequence)
        values[:, k] = angles * joint.signs
        confidence[:, k, [0, 2]] *= _from_pole(angles[:, 1], joint.sequence)[:, None]
        if joint.turn_seen_by and joint.child in segments.certainty:
            confidence[:, k, 2] *= segments.certainty[joint.child]
    flat = values.reshape(n, N_ANGLES)
    sure = np.where(observable & np.isfinite(flat), confidence.reshape(n, N_ANGLES), 0.0)
    return Angles(flat, ANGLE_NAMES, observable, sure)


def mirror_rotation(rotation: np.ndarray) -> np.ndarray:
    """M R M of rotations (..., 3, 3), M = diag(1, 1, -1): the same joint on the other side of the body."""
    flip = np.array([1.0, 1.0, -1.0])
    return flip[:, None] * rotation * flip


def euler_deg(rotation: np.ndarray, sequence: str) -> np.ndarray:
    """Intrinsic Euler angles (..., 3) in degrees of rotations (..., 3, 3): R = R1(a) R2(b) R3(c).

    `ZXY` and `YXZ` give the middle angle in [-90, 90]. `YXY` gives (a, -b, c) with b in [-180, 0]: plane of
    elevation, elevation in [0, 180], axial rotation. At a pole, where only the sum or difference of the outer
    angles is defined, the first is 0.
    """
    r = {f"{i}{j}": rotation[..., i, j] for i in range(3) for j in range(3)}
    if sequence == "ZXY":
        first = np.arctan2(-r["01"], r["11"])
        from_pole = np.hypot(r["01"], r["11"])
        second = np.arctan2(r["21"], from_pole)
        third, whole = np.arctan2(-r["20"], r["22"]), np.arctan2(r["02"], r["00"])
    elif sequence == "YXZ":
        first = np.arctan2(r["02"], r["22"])
        from_pole = np.hypot(r["02"], r["22"])
        second = np.arctan2(-r["12"], from_pole)
        third, whole = np.arctan2(r["10"], r["11"]), np.arctan2(-r["01"], r["00"])
    elif sequence == "YXY":
        first = np.arctan2(-r["01"], -r["21"])
        from_pole = np.hypot(r["01"], r["21"])
        second = np.arctan2(from_pole, r["11"])
        third, whole = np.arctan2(-r["10"], r["12"]), np.arctan2(r["02"], r["00"])
    else:
        raise ValueError(f"no sequence {sequence}; there are ZXY, YXZ and YXY")
    at_pole = from_pole < 1e-9
    first, third = np.where(at_pole, 0.0, first), np.where(at_pole, whole, third)
    return np.degrees(np.stack([first, second, third], axis=-1))


def _from_pole(middle: np.ndarray, sequence: str) -> np.ndarray:
    """(N,) 1 away from the pole of a sequence, falling to 0 at it, of middle angles (N,) in degrees."""
    distance = np.sin(np.radians(middle)) if sequence == "YXY" else np.cos(np.radians(middle))
    return np.clip(distance / _GIMBAL_SINE, 0, 1)


def camera_to_vertical(points: np.ndarray, up: Sequence[float] | np.ndarray = (0.0, -1.0, 0.0)) -> np.ndarray:
    """Camera-frame points (..., 3) in the vertical frame whose forward is towards the camera.

    Args:
        up: (3,) the upward direction in the camera's frame; a level camera has (0, -1, 0), a camera of
            elevation e (it looks down by e) has (0, -cos e, -sin e), a calibrated one `R @ (world's up)`.
    """
    y = np.asarray(up, np.float64)
    z = np.array([-1.0, 0.0, 0.0])  # a person who faces the camera has their right at its left
    return points @ long_axis_frame(y, z)


def world_to_vertical(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of AIST++'s world (y up, z towards camera c01) in the vertical frame."""
    return np.stack([points[..., 2], points[..., 1], -points[..., 0]], axis=-1)


def up_in_camera(camera: Camera) -> np.ndarray:
    """(3,) the world's up in a calibrated camera's frame; see `camera_to_vertical`."""
    return camera.rotation[:, 1]


def _without_side(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise StageError(f"{name} must be {shape}, not {array.shape}")
