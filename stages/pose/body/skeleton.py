"""The seventeen joints of the pose lane (COCO order, as in AIST++): names, mirror partners, limbs, bones.

Every other module takes indices from here; nothing about left and right is written down twice.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stages.core.data.schema import LandmarkSchema

_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
JOINTS: tuple[str, ...] = ("nose", *(f"{side}_{part}" for part in _SIDED for side in ("left", "right")))
JOINT: dict[str, int] = {name: i for i, name in enumerate(JOINTS)}
N_JOINTS = len(JOINTS)


def _pair(part: str) -> tuple[int, int]:
    """The left and the right joint called `part`."""
    return JOINT[f"left_{part}"], JOINT[f"right_{part}"]


NOSE = JOINT["nose"]
EYES, EARS, SHOULDERS, HIPS = (_pair(part) for part in ("eye", "ear", "shoulder", "hip"))
HEAD: tuple[int, ...] = (NOSE, *EYES, *EARS)
ARMS = tuple(zip(SHOULDERS, _pair("elbow"), _pair("wrist"), strict=True))
"""Shoulder, elbow and wrist of the left and of the right side."""
LEGS = tuple(zip(HIPS, _pair("knee"), _pair("ankle"), strict=True))
"""Hip, knee and ankle of the left and of the right side."""

LIMBS = tuple(edge for chain in (*ARMS, *LEGS) for edge in pairwise(chain))
"""Upper arm, forearm, thigh and shin of either side, from the trunk outwards: rigid, and free to move."""

BONES = (*LIMBS, SHOULDERS, HIPS, *zip(SHOULDERS, HIPS, strict=True))
"""Limbs and trunk: pairs of joints whose distance is (nearly) constant in one person."""

PARENT = np.arange(N_JOINTS)
"""(17,) the neighbour of each joint towards the trunk; the trunk's joints and the nose are their own."""
for _parent, _child in (*LIMBS, *((NOSE, joint) for joint in HEAD[1:])):
    PARENT[_child] = _parent

SCHEMA = LandmarkSchema(
    lane="pose",
    names=JOINTS,
    pairs=tuple(_pair(part) for part in _SIDED),
    groups={"head": HEAD, **{part: _pair(part) for part in _SIDED if part not in ("eye", "ear")}},
    edges=(*BONES, *((NOSE, eye) for eye in EYES), *zip(EYES, EARS, strict=True)),
)

SWAP = SCHEMA.swap
"""Permutation (17,) that puts the joints of a mirrored person back into order."""


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """Mirror poses (..., 17, 3) of a camera frame (x to the right) left to right. An involution."""
    return pose[..., SWAP, :] * np.array([-1.0, 1.0, 1.0], pose.dtype)


def mid(pose: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """Middle (..., D) of two joints of poses (..., 17, D)."""
    return (pose[..., pair[0], :] + pose[..., pair[1], :]) / 2


def bone_lengths(pose: np.ndarray, bones: tuple[tuple[int, int], ...] = BONES) -> np.ndarray:
    """Lengths (..., B) of `bones` in poses (..., 17, D), in the pose's unit."""
    parents, children = zip(*bones, strict=True)
    return np.linalg.norm(pose[..., children, :] - pose[..., parents, :], axis=-1)


def torso_length(pose: np.ndarray) -> np.ndarray:
    """Distance (...) from the middle of the hips to the middle of the shoulders."""
    return np.linalg.norm(mid(pose, SHOULDERS) - mid(pose, HIPS), axis=-1)
