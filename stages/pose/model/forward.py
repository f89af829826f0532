"""From joint angles back to a pose: what a change of angles does to the seventeen joints.

Segment frames follow from angles down the chain of `kinematics.angles`, F_child = F_parent R(angles). Each bone
of a pose is turned by F(refined) F(given)^T of the segment that it belongs to, so that angles which did not
change leave the pose as it is, whatever convention they are written in, and no bone changes its length.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stages.pose.body.skeleton import ARMS, HEAD, HIPS, JOINT, LEGS, LIMBS, N_JOINTS, SHOULDERS
from stages.pose.kinematics.angles import CHAIN, camera_to_vertical, joint_angles
from stages.pose.kinematics.segments import SIDES

N_CHAIN = len(CHAIN)
_SEEN_BY = [[JOINT[name] for name in joint.seen_by] for joint in CHAIN]
_MIRRORED = ("X", "Y")
"""M R M of a rotation about these axes, M = diag(1, 1, -1), turns the other way."""


def _signs() -> Tensor:
    """(12, 3) of the rotations that angles stand for, by joint and place in its sequence."""
    signs = torch.tensor([joint.signs for joint in CHAIN], dtype=torch.float64)
    for i, joint in enumerate(CHAIN):
        if joint.sequence == "YXY":
            signs[i, 1] *= -1  # elevation is written as the negative of the middle angle
        if joint.name.startswith("left_"):
            signs[i] *= torch.tensor([-1 if axis in _MIRRORED else 1 for axis in joint.sequence])
    return signs


def _generators() -> Tensor:
    """(12, 3, 3, 3) cross-product matrices of the axes of each joint's sequence."""
    of_axis = np.stack([np.cross(np.eye(3), axis) for axis in np.eye(3)])
    return torch.from_numpy(of_axis[[["XYZ".index(axis) for axis in joint.sequence] for joint in CHAIN]])


_SIGNS, _GENERATORS = _signs(), _generators()


def chain_links() -> np.ndarray:
    """(12, 12) ones where two joints share a segment as its far and its near end, and on the diagonal."""
    child = {joint.child: i for i, joint in enumerate(CHAIN)}
    links = np.eye(len(CHAIN), dtype=np.float32)
    for i, joint in enumerate(CHAIN):
        if joint.parent is not None:
            links[i, child[joint.parent]] = links[child[joint.parent], i] = 1
    return links


def angle_inputs(pose: np.ndarray, visibility: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles of camera-frame poses (B, 17, 3) as the networks read them; float32.

    Returns:
        angles: (B, 12, 3) degrees, 0 where the joints show nothing of one.
        visibility: (B, 12) the least of the joints that a joint's angles rest on.
        confidence: (B, 12, 3) how far a loss may trust each; 0 where it cannot be observed.
    """
    found = joint_angles(camera_to_vertical(pose))
    shape = (len(pose), N_CHAIN, 3)
    seen = np.stack([visibility[:, joints].min(1) for joints in _SEEN_BY], axis=1)
    values = np.nan_to_num(found.values).reshape(shape)
    return (
        values.astype(np.float32),
        seen.astype(np.float32),
        found.confidence.reshape(shape).astype(np.float32),
    )


def segment_frames(angles: Tensor) -> Tensor:
    """Angles (B, 12, 3) in degrees -> frames (B, 12, 3, 3) of each joint's child in the vertical frame."""
    turn = (angles * (math.pi / 180) * _SIGNS.to(angles))[..., None, None]
    generators = _GENERATORS.to(angles)
    # Rodrigues' formula, of every angle of every joint at once
    steps = torch.eye(3).to(angles) + turn.sin() * generators + (1 - turn.cos()) * (generators @ generators)
    relative = steps[:, :, 0] @ steps[:, :, 1] @ steps[:, :, 2]
    rows = [relative[:, :1]]  # the pelvis, then what hangs on it, and so on outwards
    for children, parents in _ROWS:
        rows.append(rows[-1][:, parents] @ relative[:, children])
    return torch.cat(rows, dim=1)[:, _BACK_IN_ORDER]


def move(pose: Tensor, given: Tensor, refined: Tensor) -> Tensor:
    """The pose (B, 17, 3; camera frame, root-relative) whose angles went from `given` to `refined` (B, 12, 3)."""
    frames = segment_frames(torch.stack([given, refined], dim=1).reshape(-1, N_CHAIN, 3))
    before, after = frames.reshape(-1, 2, N_CHAIN, 3, 3).unbind(1)
    vertical = _VERTICAL.to(pose)
    turns = vertical @ after @ before.transpose(-1, -2) @ vertical.T
    bones = _BONE_OF_JOINT.to(pose) @ pose
    turned = (turns[:, _SEGMENT_OF_BONE] @ bones[..., None])[..., 0]
    return _PATH_TO_JOINT.to(pose) @ turned


def _rows() -> list[tuple[list[int], list[int]]]:
    """Joints whose parents stand in the row before: their numbers, and their parents' places in that row."""
    rows: list[tuple[list[int], list[int]]] = []
    before = [0]
    while True:
        at = {CHAIN[i].child: place for place, i in enumerate(before)}
        children = [i for i, joint in enumerate(CHAIN) if joint.parent in at]
        if not children:
            return rows
        rows.append((children, [at[CHAIN[i].parent or ""] for i in children]))
        before = children


def _segments() -> list[int]:
    """(17,) number in the chain of the joint whose child carries the bone that ends in each joint.

    Limbs hang on their chains; the bones of hips, shoulders and head start at the middle of the hips.
    """
    number = {joint.child: i for i, joint in enumerate(CHAIN)}
    segment = dict.fromkeys(HIPS, number["pelvis"]) | dict.fromkeys((*SHOULDERS, *HEAD), number["thorax"])
    for chains, names in ((LEGS, ("femur", "tibia")), (ARMS, ("humerus", "forearm"))):
        for side, chain in zip(SIDES, chains, strict=True):
            segment |= {end: number[f"{side}_{name}"] for name, end in zip(names, chain[1:], strict=True)}
    return [segment[joint] for joint in range(N_JOINTS)]


def _bones() -> Tensor:
    """(17, 17); times a pose: the bone that ends in each joint."""
    bones = torch.eye(N_JOINTS, dtype=torch.float64)
    for parent, child in LIMBS:
        bones[child, parent] = -1
    return bones


_ROWS = _rows()
_BACK_IN_ORDER = np.argsort([0, *(i for children, _ in _ROWS for i in children)]).tolist()
_SEGMENT_OF_BONE = _segments()
_BONE_OF_JOINT = _bones()
_PATH_TO_JOINT = torch.linalg.inv(_BONE_OF_JOINT)
"""(17, 17); times the bones: the pose, each joint at the end of its path from the hips."""
_VERTICAL = torch.from_numpy(camera_to_vertical(np.eye(3)))
"""(3, 3); camera vector @ this = vertical vector."""
