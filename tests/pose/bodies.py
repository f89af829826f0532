"""People built from joint angles: the opposite direction of stages.pose.kinematics, through SciPy."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from stages.pose.body.skeleton import JOINT
from stages.pose.kinematics.angles import ANGLE_NAMES, CHAIN

MIRROR = np.diag([1.0, 1.0, -1.0])
ANGLE = {name: k for k, name in enumerate(ANGLE_NAMES)}


def angles(n: int = 1, /, **given: float | np.ndarray) -> np.ndarray:
    """(n, 36) degrees: those given by name, 0 otherwise."""
    values = np.zeros((n, len(ANGLE_NAMES)))
    for name, value in given.items():
        values[:, ANGLE[name]] = value
    return values


def random_angles(n: int, seed: int) -> np.ndarray:
    """(n, 36) degrees, every angle anywhere short of the poles of its sequence."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-170, 170, (n, len(CHAIN), 3))
    values[:, :, 1] = rng.uniform(-80, 80, (n, len(CHAIN)))
    for k, joint in enumerate(CHAIN):
        if joint.sequence == "YXY":
            values[:, k, 1] = rng.uniform(5, 175, n)
    return values.reshape(n, -1)


def frames(values: np.ndarray) -> dict[str, np.ndarray]:
    """Segment -> (n, 3, 3) frames of angles (n, 36)."""
    found: dict[str, np.ndarray] = {}
    for k, joint in enumerate(CHAIN):
        euler = values[:, 3 * k : 3 * k + 3] * joint.signs
        if joint.sequence == "YXY":
            euler = euler * [1, -1, 1]
        rotation = Rotation.from_euler(joint.sequence, euler, degrees=True).as_matrix()
        if joint.name.startswith("left_"):
            rotation = MIRROR @ rotation @ MIRROR
        found[joint.child] = rotation if joint.parent is None else found[joint.parent] @ rotation
    return found


def _at(frame: np.ndarray, *offset: float) -> np.ndarray:
    return frame @ np.array(offset)


def markers(values: np.ndarray) -> dict[str, np.ndarray]:
    """The augmented markers that frames rest on, (n, 3) metres each, of a body with these angles."""
    body = frames(values)
    pelvis, thorax = body["pelvis"], body["thorax"]
    hip, neck = np.zeros((len(values), 3)), _at(thorax, 0, 0.5, 0)
    found = {}
    for side, mark, z in (("right", "r", 1.0), ("left", "L", -1.0)):
        hjc = hip + _at(pelvis, 0, 0, 0.09 * z)
        # the hips' middle is the pelvis's origin; ASIS and PSIS lie above it
        found[f"{mark}.ASIS_study"] = hip + _at(pelvis, 0.09, 0.08, 0.12 * z)
        found[f"{mark}.PSIS_study"] = hip + _at(pelvis, -0.09, 0.08, 0.04 * z)
        femur, tibia, foot = (body[f"{side}_{name}"] for name in ("femur", "tibia", "foot"))
        humerus, forearm = (body[f"{side}_{name}"] for name in ("humerus", "forearm"))
        knee = hjc + _at(femur, 0, -0.42, 0)
        ankle = knee + _at(tibia, 0, -0.4, 0)
        shoulder = neck + _at(thorax, 0, 0, 0.18 * z)
        elbow = shoulder + _at(humerus, 0, -0.3, 0)
        wrist = elbow + _at(forearm, 0, -0.25, 0)
        calc = ankle + _at(foot, -0.05, -0.06, 0)
        toe = calc + _at(foot, 0.2, 0, 0)
        pairs = (
            ("knee", "mknee", knee, femur),
            ("ankle", "mankle", ankle, tibia),
            ("lelbow", "melbow", elbow, humerus),
            ("lwrist", "mwrist", wrist, forearm),
        )
        for outer, inner, centre, frame in pairs:
            found[f"{mark}_{outer}_study"] = centre + _at(frame, 0, 0, 0.04 * z)
            found[f"{mark}_{inner}_study"] = centre - _at(frame, 0, 0, 0.04 * z)
        found |= {
            f"{mark}_shoulder_study": shoulder,
            f"{mark.upper()}HJC_study": hjc,
            f"{mark}_calc_study": calc,
            f"{mark}_toe_study": toe,
            f"{mark}_5meta_study": toe + _at(foot, 0, 0, 0.06 * z),
        }
    return found


def joints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 17, 3) joints and (n, 2, 2, 3) feet, metres, of a body with these angles."""
    marked = markers(values)
    points = np.zeros((len(values), 17, 3))
    feet = np.zeros((len(values), 2, 2, 3))
    for k, (side, mark) in enumerate((("left", "L"), ("right", "r"))):
        middle = {
            part: (marked[f"{mark}_{outer}_study"] + marked[f"{mark}_{inner}_study"]) / 2
            for part, outer, inner in (
                ("knee", "knee", "mknee"),
                ("ankle", "ankle", "mankle"),
                ("elbow", "lelbow", "melbow"),
                ("wrist", "lwrist", "mwrist"),
            )
        }
        middle |= {"hip": marked[f"{mark.upper()}HJC_study"], "shoulder": marked[f"{mark}_shoulder_study"]}
        for part, place in middle.items():
            points[:, JOINT[f"{side}_{part}"]] = place
        feet[:, k] = np.stack([marked[f"{mark}_calc_study"], marked[f"{mark}_toe_study"]], axis=1)
    thorax = frames(values)["thorax"]
    neck = (points[:, JOINT["left_shoulder"]] + points[:, JOINT["right_shoulder"]]) / 2
    for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear"):
        z = 0.03 * (("right" in name) - ("left" in name))
        points[:, JOINT[name]] = neck + _at(thorax, 0.08 if name == "nose" else 0.05, 0.2, z)
    return points, feet
