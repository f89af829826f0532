from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.pose.body.frames import (
    Camera,
    azimuth_elevation,
    body_axes,
    camera_to_world,
    is_inverted,
    project,
    rodrigues,
    root_relative,
    rotation_vector,
    unproject,
    view_direction,
    world_to_camera,
)
from stages.pose.body.skeleton import HIPS, JOINT, mid, mirror_pose

seeds = st.integers(0, 2**32 - 1)


def standing_person() -> np.ndarray:
    """(17, 3) metres, world frame: upright at the origin, facing +Z, right hand towards -X."""
    places = {
        "nose": (0, 1.55, 0.1), "eye": (0.03, 1.58, 0.08), "ear": (0.07, 1.56, 0.0),
        "shoulder": (0.17, 1.4, 0),
        "elbow": (0.3, 1.2, 0), "wrist": (0.35, 1.0, 0.1), "hip": (0.1, 0.9, 0), "knee": (0.12, 0.5, 0.02),
        "ankle": (0.12, 0.08, 0),
    }  # fmt: skip
    pose = np.zeros((17, 3))
    for name, joint in JOINT.items():
        side, _, part = name.rpartition("_")
        x, y, z = places[part]
        pose[joint] = (-x if side == "right" else x, y, z)
    return pose


def camera_at(centre: tuple[float, float, float], target: tuple[float, float, float]) -> Camera:
    from stages.pose.body.studio import look_at

    rotation = look_at(np.array(centre), np.array(target))
    matrix = np.array([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]])
    distortion = np.array([-0.1, 0.02, 0.001, -0.002, 0.003])
    return Camera("c01", (1920, 1080), matrix, distortion, rotation, -rotation @ np.array(centre))


def view_of(centre: tuple[float, float, float]) -> tuple[float, float]:
    camera = camera_at(centre, (0, 1.15, 0))
    seen = world_to_camera(standing_person(), camera)
    azimuth, elevation = azimuth_elevation(view_direction(root_relative(seen), mid(seen, HIPS)))
    return float(azimuth), float(elevation)


@given(seeds)
def test_rodrigues_agrees_with_scipy_and_its_inverse(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(0, 1, (4, 3))
    np.testing.assert_allclose(rodrigues(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(
        rodrigues(rotation_vector(rodrigues(vectors)[0])), rodrigues(vectors)[0], atol=1e-9
    )


def test_no_rotation_is_the_identity() -> None:
    np.testing.assert_array_equal(rodrigues(np.zeros(3)), np.eye(3))


@given(seeds)
def test_world_and_camera_are_inverses_and_the_centre_is_the_cameras_origin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = camera_at((3, 1.2, 4), (0, 1, 0))
    points = rng.normal(size=(5, 17, 3))
    np.testing.assert_allclose(camera_to_world(world_to_camera(points, camera), camera), points, atol=1e-12)
    np.testing.assert_allclose(world_to_camera(camera.centre, camera), 0, atol=1e-12)


def test_camera_axes_are_right_down_and_away() -> None:
    camera = camera_at((0, 1, 5), (0, 1, 0))  # in front of a dancer who faces +Z
    x, y, z = world_to_camera(np.array([-0.5, 1.8, 1.0]), camera)  # dancer's right, above, nearer
    assert x < 0  # the dancer's right is on the picture's left
    assert y < 0
    assert 3.9 < z < 4.1


@given(seeds)
def test_projection_and_unprojection_are_inverses(seed: int) -> None:
    camera = camera_at((0, 1, 5), (0, 1, 0))
    points = np.random.default_rng(seed).uniform((-1.2, -1.0, 3.5), (1.2, 1.0, 6.0), (50, 3))
    uv = project(points, camera)
    np.testing.assert_allclose(unproject(uv, points[:, 2], camera), points, atol=1e-9)


def test_projection_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    camera = camera_at((0, 1, 5), (0, 1, 0))
    points = np.random.default_rng(0).uniform((-1.2, -1.0, 3.5), (1.2, 1.0, 6.0), (50, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)
    np.testing.assert_allclose(project(points, camera), expected[:, 0], atol=1e-6)


def test_points_behind_the_camera_have_no_pixel() -> None:
    assert np.isnan(project(np.array([[0.1, 0.2, -1.0]]), camera_at((0, 1, 5), (0, 1, 0)))).all()


@pytest.mark.parametrize(
    ("centre", "azimuth"),
    [((0, 1.15, 5), 0), ((-5, 1.15, 0), 90), ((0, 1.15, -5), 180), ((5, 1.15, 0), 270)],
    ids=["front", "at the right", "behind", "at the left"],
)
def test_azimuth_counts_from_the_front_to_the_subjects_right(
    centre: tuple[float, float, float], azimuth: float
) -> None:
    found, elevation = view_of(centre)
    assert (found - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=0.01)
    assert elevation == pytest.approx(0, abs=0.01)


def test_a_higher_camera_has_a_positive_elevation() -> None:
    assert view_of((0, 1.15 + 5, 5))[1] == pytest.approx(45, abs=0.01)


def test_body_axes_are_right_handed_and_forward_is_where_the_nose_points() -> None:
    axes = body_axes(standing_person())
    np.testing.assert_allclose(axes, [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


@given(seeds)
def test_a_mirrored_view_changes_the_side_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = root_relative(standing_person() + rng.normal(0, 0.05, (17, 3))) * [1, -1, -1]
    root = np.array([rng.normal(0, 0.3), 0.1, 5.0])
    view = view_direction(pose, root)
    mirrored = view_direction(mirror_pose(pose), root * [-1, 1, 1])
    np.testing.assert_allclose(mirrored, view * [1, 1, -1], atol=1e-9)


def test_bending_down_is_inverted_and_standing_is_not() -> None:
    pose = standing_person()
    bent = pose.copy()
    for joint in range(11):
        height, depth = pose[joint, 1] - 0.9, pose[joint, 2]
        bent[joint, 1:] = (0.9 - depth, height)  # a quarter turn about the hips
    np.testing.assert_array_equal(is_inverted(np.stack([pose, bent])), [False, True])
