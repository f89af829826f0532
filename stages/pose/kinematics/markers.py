"""Markers in Pose2Sim's names: twenty-two from the seventeen joints, and the 43 that the augmenter adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.skeleton import HIPS, JOINT, N_JOINTS, NOSE, SHOULDERS, mid, torso_length
from stages.pose.kinematics.segments import SIDES, unit

_LETTER = {side: side[0].upper() for side in SIDES}
_LEG = ("Hip", "Knee", "Ankle", "BigToe", "SmallToe", "Heel")
_ARM = ("Shoulder", "Elbow", "Wrist")

BASIC: tuple[str, ...] = (
    "Hip",
    *(f"{letter}{part}" for letter in "RL" for part in _LEG),
    *("Neck", "Head", "Nose"),
    *(f"{letter}{part}" for letter in "RL" for part in _ARM),
)
"""The twenty-two points, in the order of Pose2Sim's files with the middle of the hips in front."""

JOINT_OF: dict[str, int] = {
    "Nose": NOSE,
    **{
        f"{_LETTER[side]}{part}": JOINT[f"{side}_{part.lower()}"]
        for side in SIDES
        for part in ("Hip", "Knee", "Ankle", *_ARM)
    },
}
"""Marker -> joint of the skeleton, of the thirteen markers that are joints."""


def _study(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_study" for name in names)


_PELVIS = _study("r.ASIS", "L.ASIS", "r.PSIS", "L.PSIS")
LOWER: tuple[str, ...] = (
    *_PELVIS,
    *_study(*(f"r_{part}" for part in ("knee", "mknee", "ankle", "mankle", "toe", "5meta", "calc"))),
    *_study(*(f"L_{part}" for part in ("knee", "mknee", "ankle", "mankle", "toe", "calc", "5meta"))),
    *_study("r_shoulder", "L_shoulder", "C7"),
    *_study(*(f"{mark}_{part}{k}" for part in ("thigh", "sh") for mark in "rL" for k in (1, 2, 3))),
    *_study("RHJC", "LHJC"),
)
"""(35,) what the augmenter's lower model adds, in its order."""
UPPER: tuple[str, ...] = _study(
    *(f"{mark}_{part}" for mark in "rL" for part in ("lelbow", "melbow", "lwrist", "mwrist"))
)
"""(8,) what its upper model adds."""
AUGMENTED: tuple[str, ...] = (*BASIC, *LOWER, *UPPER)
"""All sixty-five."""

_HEAD, _HEEL_BACK, _HEEL_DOWN, _FOOT, _FOOT_WIDTH = 0.30, 0.10, 0.06, 0.40, 0.06
"""Lengths in torsos: 15, 5, 3, 20 and 3 cm where the torso measures 50 cm."""


@dataclass(frozen=True)
class Markers:
    """Markers of N poses.

    Attributes:
        positions: name -> (N, 3), in the unit and the frame of the points that they were made from.
        observed: name -> (N,) whether the marker rests on a point that was seen; a foot made from the trunk's
            direction or a head made from the nose shows nothing of its own.
    """

    positions: Mapping[str, np.ndarray]
    observed: Mapping[str, np.ndarray]


def markers_of_joints(points: np.ndarray, feet: np.ndarray | None = None) -> Markers:
    """The twenty-two markers `BASIC` of poses of seventeen joints.

    Neck and hip are middles; the head lies beyond the nose on the line from the neck. A foot that no estimator
    saw is a template turned as the trunk is: its angles tell nothing (see `joint_angles`).

    Args:
        points: (N, 17, 3) in any unit and any right-handed frame.
        feet: (N, 2, 2, 3) left and right foot, each heel and tip, as an estimator saw them; where one is
            NaN the template stands in.
    Raises:
        StageError: arrays of other shapes.
    """
    points = np.asarray(points, np.float64)
    n = len(points)
    if points.shape != (n, N_JOINTS, 3):
        raise StageError(f"points must be {(n, N_JOINTS, 3)}, not {points.shape}")
    feet = np.full((n, 2, 2, 3), np.nan) if feet is None else np.asarray(feet, np.float64)
    if feet.shape != (n, 2, 2, 3):
        raise StageError(f"feet must be {(n, 2, 2, 3)}: left and right, heel and tip; not {feet.shape}")
    torso = torso_length(points)[:, None]
    hip, neck = mid(points, HIPS), mid(points, SHOULDERS)
    up, right = unit(neck - hip), unit(points[:, HIPS[1]] - points[:, HIPS[0]])
    forward = unit(np.cross(up, right))
    nose = points[:, NOSE]
    found = {name: points[:, joint] for name, joint in JOINT_OF.items()}
    found |= {"Hip": hip, "Neck": neck, "Head": nose + _HEAD * torso * unit(nose - neck)}
    seen = dict.fromkeys(found, np.ones(n, bool)) | {"Head": np.zeros(n, bool)}
    for k, side in enumerate(SIDES):
        letter, outwards = _LETTER[side], right if side == "right" else -right
        heel_seen, tip_seen = np.isfinite(feet[:, k]).all(-1).T
        heel = found[f"{letter}Ankle"] - torso * (_HEEL_BACK * forward + _HEEL_DOWN * up)
        heel = np.where(heel_seen[:, None], feet[:, k, 0], heel)
        tip = np.where(tip_seen[:, None], feet[:, k, 1], heel + _FOOT * torso * forward)
        found[f"{letter}Heel"], found[f"{letter}BigToe"] = heel, tip
        found[f"{letter}SmallToe"] = tip + _FOOT_WIDTH * torso * outwards
        seen[f"{letter}Heel"], seen[f"{letter}BigToe"] = heel_seen, tip_seen
        seen[f"{letter}SmallToe"] = np.zeros(n, bool)
    return Markers({name: found[name] for name in BASIC}, {name: seen[name] for name in BASIC})


def joints_of_markers(markers: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, 17, 3) joints of markers by name; eyes and ears, which no marker shows, are NaN.

    Raises:
        StageError: naming the markers that are missing.
    """
    if missing := [name for name in JOINT_OF if name not in markers]:
        raise StageError(f"joints need the markers {', '.join(JOINT_OF)}; missing: {', '.join(missing)}")
    points = np.full((len(markers["Nose"]), N_JOINTS, 3), np.nan)
    for name, joint in JOINT_OF.items():
        points[:, joint] = markers[name]
    return points


def feet_of_markers(markers: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, 2, 2, 3) left and right foot, each heel and big toe, of markers by name.

    Raises:
        StageError: naming the markers that are missing.
    """
    names = [f"{_LETTER[side]}{part}" for side in SIDES for part in ("Heel", "BigToe")]
    if missing := [name for name in names if name not in markers]:
        raise StageError(f"feet need the markers {', '.join(names)}; missing: {', '.join(missing)}")
    return np.stack([markers[name] for name in names], axis=1).reshape(-1, 2, 2, 3)
