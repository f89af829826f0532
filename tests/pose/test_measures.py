from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.pose.body import measures
from stages.pose.body.frames import azimuth_elevation, body_axes
from stages.pose.body.skeleton import HIPS, LIMBS, SHOULDERS

seeds = st.integers(0, 2**32 - 1)


def some_poses(seed: int, n: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.4, (n, 17, 3))


@given(seeds, st.floats(0.3, 3))
def test_pa_mpjpe_ignores_rotation_scale_and_shift(seed: int, scale: float) -> None:
    truth = some_poses(seed)
    rotation = Rotation.random(random_state=seed % 2**31).as_matrix()
    moved = scale * truth @ rotation.T + [0.3, -1, 2]
    np.testing.assert_allclose(measures.pa_mpjpe_mm(moved, truth), 0, atol=1e-6)


@given(seeds)
def test_alignment_never_mirrors(seed: int) -> None:
    truth = some_poses(seed)
    assert (measures.pa_mpjpe_mm(truth * [-1, 1, 1], truth) > 50).all()


@given(seeds)
def test_aligning_never_makes_the_squared_error_larger(seed: int) -> None:
    truth, guess = some_poses(seed), some_poses(seed + 1)
    before, after = (((pose - truth) ** 2).sum((1, 2)) for pose in (guess, measures.align(guess, truth)))
    assert (after <= before + 1e-9).all()


@given(seeds)
def test_the_best_rotation_about_the_root_removes_a_rotation(seed: int) -> None:
    truth = some_poses(seed)
    turned = truth @ Rotation.random(random_state=seed % 2**31).as_matrix().T
    np.testing.assert_allclose(measures.after_rotation_abs_dz_cm(turned, truth), 0, atol=1e-6)


def test_depth_and_joint_errors_are_in_cm_and_mm() -> None:
    truth = some_poses(0)
    guess = truth + np.array([0.03, 0, -0.04])
    np.testing.assert_allclose(measures.abs_dz_cm(guess, truth), 4)
    np.testing.assert_allclose(measures.joint_errors_mm(guess, truth), 50)


def test_limb_angles_are_degrees_and_blind_to_length() -> None:
    truth = some_poses(1)
    longer = truth.copy()
    parent, child = LIMBS[1]
    longer[:, child] = truth[:, parent] + 2 * (truth[:, child] - truth[:, parent])
    angles = measures.limb_angles_deg(longer, truth)
    np.testing.assert_allclose(angles[:, 1], 0, atol=1e-5)
    turned = truth @ Rotation.from_euler("x", 30, degrees=True).as_matrix().T
    assert (measures.limb_angles_deg(turned, truth) <= 30 + 1e-6).all()


def test_acceleration_error_forgives_constant_speed_and_skips_holes() -> None:
    frames = np.array([0, 1, 2, 3, 7, 8, 9])
    truth = some_poses(2, len(frames))
    drifting = truth + 0.01 * frames[:, None, None]
    np.testing.assert_allclose(measures.acceleration_error_mm(drifting, truth, frames), 0, atol=1e-9)
    assert len(measures.acceleration_error_mm(truth, truth, frames)) == 3
    jerk = truth.copy()
    jerk[1, :, 0] += 0.01
    np.testing.assert_allclose(measures.acceleration_error_mm(jerk, truth, frames), [20, 10, 0], atol=1e-9)
    assert measures.acceleration_error_mm(truth[:1], truth[:1], frames[:1]).size == 0


def test_rigid_bodies_have_no_bone_variation() -> None:
    rotations = Rotation.random(20, random_state=0).as_matrix()
    rigid = np.einsum("nij,kj->nki", rotations, some_poses(3, 1)[0])
    assert measures.bone_variation_percent(rigid) == pytest.approx(0, abs=1e-9)
    growing = rigid * np.linspace(0.9, 1.1, 20)[:, None, None]
    assert measures.bone_variation_percent(growing) == pytest.approx(
        100 * np.linspace(0.9, 1.1, 20).std(), rel=1e-6
    )


def standing(turn_deg: float = 0.0, lean_deg: float = 0.0) -> np.ndarray:
    """(1, 17, 3) a person in the camera's frame, turned to their left and then leaning away from the camera."""
    pose = np.zeros((1, 17, 3))
    pose[:, SHOULDERS] = [[0.2, -0.5, 0], [-0.2, -0.5, 0]]  # faces the camera: the left side is at its right
    pose[:, HIPS] = [[0.1, 0, 0], [-0.1, 0, 0]]
    turn = Rotation.from_euler("y", -turn_deg, degrees=True)
    lean = Rotation.from_euler("x", -lean_deg, degrees=True)
    return pose @ (lean * turn).as_matrix().T


TOWARDS_CAMERA = np.array([[0.0, 0.0, -1.0]])


def view_of(pose: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", body_axes(pose), TOWARDS_CAMERA)


def test_a_constructed_pose_is_seen_from_where_the_camera_stands() -> None:
    for turn, expected in ((0, 0), (90, 90), (180, 180), (-90, 270)):
        azimuth, elevation = azimuth_elevation(view_of(standing(turn)))
        assert measures.angular_difference_deg(azimuth, np.array([expected]))[0] < 1e-6
        assert abs(elevation[0]) < 1e-6
    # whoever leans away from the camera is seen from lower down
    assert azimuth_elevation(view_of(standing(0, 20)))[1][0] == pytest.approx(-20)


@given(st.floats(-170, 170), st.floats(-60, 60))
def test_view_angle_errors_are_the_turn_and_the_lean(turn: float, lean: float) -> None:
    truth = standing()
    azimuth, elevation = measures.view_angle_errors_deg(standing(turn), truth, view_of(truth))
    assert azimuth[0] == pytest.approx(abs(turn), abs=1e-5)
    assert elevation[0] == pytest.approx(0, abs=1e-5)
    azimuth, elevation = measures.view_angle_errors_deg(standing(0, lean), truth, view_of(truth))
    assert elevation[0] == pytest.approx(abs(lean), abs=1e-5)


@given(seeds)
def test_the_truth_is_seen_from_where_it_is_seen(seed: int) -> None:
    truth = some_poses(seed)
    view = np.random.default_rng(seed).normal(size=(4, 3))
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    for error in measures.view_angle_errors_deg(truth, truth, view):
        np.testing.assert_allclose(error, 0, atol=1e-4)


def test_front_taken_for_back_is_counted() -> None:
    truth = np.repeat(standing(), 4, axis=0)
    guess = np.concatenate([standing(turn) for turn in (0, 80, 100, 180)])
    azimuth, _ = measures.view_angle_errors_deg(guess, truth, np.repeat(view_of(standing()), 4, axis=0))
    assert measures.flips_percent(azimuth) == 50
    assert np.isnan(measures.flips_percent(np.array([np.nan])))


def test_angles_differ_the_short_way_round() -> None:
    found = measures.angular_difference_deg(np.array([359.0, 10, 180, -170]), np.array([1.0, 350, 0, 170]))
    np.testing.assert_allclose(found, [2, 20, 180, 20])
