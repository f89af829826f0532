from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.pose.body.skeleton import (
    ARMS,
    BONES,
    HIPS,
    JOINTS,
    LEGS,
    LIMBS,
    PARENT,
    SWAP,
    bone_lengths,
    mirror_pose,
    torso_length,
)

poses = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(3, 17, 3)))


def test_joints_are_cocos_in_cocos_order() -> None:
    assert JOINTS[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert JOINTS[5:11] == tuple(
        f"{s}_{p}" for p in ("shoulder", "elbow", "wrist") for s in ("left", "right")
    )
    assert JOINTS[11:] == tuple(f"{s}_{p}" for p in ("hip", "knee", "ankle") for s in ("left", "right"))


def test_swap_exchanges_left_and_right_and_nothing_else() -> None:
    for joint, partner in enumerate(SWAP):
        side, _, part = JOINTS[joint].partition("_")
        expected = {"left": f"right_{part}", "right": f"left_{part}"}.get(side, JOINTS[joint])
        assert JOINTS[partner] == expected


def test_a_mirrored_skeleton_has_the_same_limbs_bones_and_parents() -> None:
    for edges in (LIMBS, BONES):
        mirrored = {frozenset((int(SWAP[a]), int(SWAP[b]))) for a, b in edges}
        assert mirrored == {frozenset(edge) for edge in edges}
    np.testing.assert_array_equal(PARENT[SWAP], SWAP[PARENT])


def test_limbs_lead_away_from_the_trunk() -> None:
    for chain in (*ARMS, *LEGS):
        assert (chain[0], chain[1]) in LIMBS
        assert (chain[1], chain[2]) in LIMBS
        assert PARENT[chain[2]] == chain[1]


@given(poses)
def test_mirroring_twice_changes_nothing(pose: np.ndarray) -> None:
    np.testing.assert_array_equal(mirror_pose(mirror_pose(pose)), pose)


@given(poses)
def test_a_mirrored_person_keeps_lengths_and_changes_sides(pose: np.ndarray) -> None:
    mirrored = mirror_pose(pose)
    np.testing.assert_allclose(torso_length(mirrored), torso_length(pose))
    np.testing.assert_allclose(np.sort(bone_lengths(mirrored)), np.sort(bone_lengths(pose)))
    np.testing.assert_array_equal(mirrored[:, HIPS[0], 0], -pose[:, HIPS[1], 0])
