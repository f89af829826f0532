from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.core.errors import StageError
from stages.pose.body.skeleton import ARMS, LEGS, SWAP
from stages.pose.kinematics.angles import (
    ANGLE_NAMES,
    CHAIN,
    Angles,
    camera_to_vertical,
    euler_deg,
    joint_angles,
    marker_angles,
    mirror_rotation,
    up_in_camera,
    world_to_vertical,
)
from stages.pose.kinematics.markers import LOWER, feet_of_markers, joints_of_markers, markers_of_joints
from stages.pose.kinematics.reference import reference_segments
from stages.pose.kinematics.segments import BLEND_DEG, segments_of_joints, segments_of_markers
from tests.pose import bodies
from tests.pose.bodies import ANGLE, MIRROR
from tests.pose.test_frames import camera_at, standing_person

seeds = st.integers(0, 2**32 - 1)


def read(values: np.ndarray, *names: str) -> list[float]:
    return [float(values[0, ANGLE[name]]) for name in names]


def apart_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs((a - b + 180) % 360 - 180)


@given(seeds)
def test_angles_of_markers_are_the_angles_that_the_body_was_built_from(seed: int) -> None:
    values = bodies.random_angles(20, seed)
    found = marker_angles(dict.fromkeys(LOWER, np.zeros((20, 3))) | bodies.markers(values))
    assert apart_deg(found.values, values).max() < 1e-9
    assert found.observable.all()


@given(seeds)
def test_rotations_read_as_scipy_reads_them(seed: int) -> None:
    rotation = Rotation.random(5, random_state=seed)
    for sequence in ("ZXY", "YXZ"):
        expected = rotation.as_euler(sequence, degrees=True)
        np.testing.assert_allclose(euler_deg(rotation.as_matrix(), sequence), expected, atol=1e-9)
    plane, elevation, axial = euler_deg(rotation.as_matrix(), "YXY").T
    assert ((elevation >= 0) & (elevation <= 180)).all()
    again = Rotation.from_euler("YXY", np.stack([plane, -elevation, axial], 1), degrees=True)
    np.testing.assert_allclose(again.as_matrix(), rotation.as_matrix(), atol=1e-12)


def test_a_mirror_turns_the_second_and_third_angle_around() -> None:
    rotation = Rotation.from_euler("ZXY", [35, 12, -20], degrees=True).as_matrix()
    np.testing.assert_allclose(mirror_rotation(rotation), MIRROR @ rotation @ MIRROR)
    np.testing.assert_allclose(euler_deg(mirror_rotation(rotation), "ZXY"), [35, -12, 20], atol=1e-12)


def standing_angles() -> np.ndarray:
    return bodies.angles()


def test_arms_down_and_legs_straight_is_zero() -> None:
    points, feet = bodies.joints(standing_angles())
    found = joint_angles(points, feet=feet)
    np.testing.assert_allclose(found.values, 0, atol=1e-9)


@pytest.mark.parametrize(
    ("given_", "child", "distal"),
    [
        ({"right_hip_flexion": 30}, "right_femur", (0.5, -np.cos(np.pi / 6), 0)),
        ({"left_hip_flexion": 30}, "left_femur", (0.5, -np.cos(np.pi / 6), 0)),
        ({"right_hip_adduction": 20}, "right_femur", (0, -0.9397, -0.3420)),
        ({"left_hip_adduction": 20}, "left_femur", (0, -0.9397, 0.3420)),
        ({"right_knee_flexion": 90}, "right_tibia", (-1, 0, 0)),
        ({"right_shoulder_elevation": 90}, "right_humerus", (0, 0, 1)),
        ({"left_shoulder_elevation": 90}, "left_humerus", (0, 0, -1)),
        ({"right_shoulder_elevation": 90, "right_shoulder_plane_of_elevation": 90}, "right_humerus", (1, 0, 0)),
        ({"left_shoulder_elevation": 90, "left_shoulder_plane_of_elevation": 90}, "left_humerus", (1, 0, 0)),
        ({"right_elbow_flexion": 90}, "right_forearm", (1, 0, 0)),
        ({"trunk_flexion": 30}, "thorax", (-0.5, -np.cos(np.pi / 6), 0)),
        ({"trunk_right_bend": 30}, "thorax", (0, -np.cos(np.pi / 6), -0.5)),
        ({"pelvis_tilt": 10}, "pelvis", (np.sin(np.pi / 18), -np.cos(np.pi / 18), 0)),
    ],
)  # fmt: skip
def test_positive_angles_point_where_anatomy_says(
    given_: dict[str, float], child: str, distal: tuple[float, float, float]
) -> None:
    frames = segments_of_markers(bodies.markers(bodies.angles(**given_))).frames
    np.testing.assert_allclose(-frames[child][0, :, 1], distal, atol=1e-4)


def t_pose() -> np.ndarray:
    return bodies.angles(left_shoulder_elevation=90, right_shoulder_elevation=90)


def seated() -> np.ndarray:
    sitting = {
        f"{side}_{name}": 90.0 for side in ("left", "right") for name in ("hip_flexion", "knee_flexion")
    }
    return bodies.angles(**sitting)


@pytest.mark.parametrize("build", [standing_angles, t_pose, seated])
def test_postures_come_back_from_joints(build: object) -> None:
    values = build()  # type: ignore[operator]
    points, feet = bodies.joints(values)
    found = joint_angles(points, feet=feet)
    np.testing.assert_allclose(found.values[:, found.observable], values[:, found.observable], atol=1e-9)


SWEEPS = {
    "hip_flexion": (-20, 110), "hip_adduction": (-40, 20), "knee_flexion": (-20, 130),
    "ankle_dorsiflexion": (-40, 25), "shoulder_elevation": (16, 164), "elbow_flexion": (0, 140),
}  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_one_angle_is_seen_in_that_angle_alone(name: str, side: str) -> None:
    sweep = np.linspace(*SWEEPS[name], 27)
    values = bodies.angles(27, **{f"{side}_{name}": sweep})
    points, feet = bodies.joints(values)
    found = joint_angles(points, feet=feet)
    np.testing.assert_allclose(found.values[:, found.observable], values[:, found.observable], atol=1e-9)


@pytest.mark.parametrize(("name", "low", "high"), [
    ("trunk_right_bend", -40, 40), ("trunk_left_rotation", -60, 60), ("pelvis_rotation", -170, 170),
    ("pelvis_obliquity", -40, 40),
])  # fmt: skip
def test_a_sweep_of_the_trunk_is_seen_in_that_angle_alone(name: str, low: float, high: float) -> None:
    values = bodies.angles(23, **{name: np.linspace(low, high, 23)})
    found = joint_angles(bodies.joints(values)[0])
    column = ANGLE[name]
    if name == "trunk_right_bend":  # the pelvis's fallback leans with the trunk only forwards: the bend stays
        np.testing.assert_allclose(found.values[:, column], values[:, column], atol=1e-9)
    else:
        np.testing.assert_allclose(found.values[:, found.observable], values[:, found.observable], atol=1e-9)


@given(seeds)
def test_bent_limbs_come_back_from_joints_whole(seed: int) -> None:
    """With an upright trunk and limbs bent past the blend, joints say all that they can."""
    rng = np.random.default_rng(seed)
    values = bodies.angles(10)
    for side in ("left", "right"):
        for name, low, high in (
            ("hip_flexion", -20, 100), ("hip_adduction", -40, 20), ("hip_internal_rotation", -40, 40),
            ("knee_flexion", 20, 130), ("shoulder_plane_of_elevation", -60, 120), ("shoulder_elevation", 20, 150),
            ("shoulder_axial_rotation", -80, 80), ("elbow_flexion", 20, 140),
        ):  # fmt: skip
            values[:, ANGLE[f"{side}_{name}"]] = rng.uniform(low, high, 10)
    found = joint_angles(bodies.joints(values)[0])
    wrong = apart_deg(found.values, values)[:, found.observable]
    assert wrong.max() < 1e-9
    assert found.confidence[:, found.observable].min() == 1


@given(seeds)
def test_a_turned_person_has_the_same_joint_angles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = standing_person() + rng.normal(scale=0.1, size=(8, 17, 3))
    turn = Rotation.random(random_state=seed).as_matrix()
    first, second = joint_angles(points), joint_angles(2.5 * points @ turn.T + [1, 2, 3])
    pelvis = np.array([name.startswith("pelvis") for name in ANGLE_NAMES])
    joints = ~pelvis & first.observable
    assert apart_deg(first.values, second.values)[:, joints].max() < 1e-6
    assert apart_deg(first.values, second.values)[:, pelvis].max() > 1
    np.testing.assert_allclose(first.confidence[:, ~pelvis], second.confidence[:, ~pelvis], atol=1e-9)


@given(seeds)
def test_a_mirrored_person_has_the_angles_of_the_other_side(seed: int) -> None:
    points = standing_person() + np.random.default_rng(seed).normal(scale=0.1, size=(8, 17, 3))
    vertical = world_to_vertical(points)
    first, second = joint_angles(vertical), joint_angles((vertical @ MIRROR)[:, SWAP])
    other = [name.replace("left_", "?").replace("right_", "left_").replace("?", "right_")
             if name[:5] in ("left_", "right") else name for name in ANGLE_NAMES]  # fmt: skip
    middle = {"pelvis_rotation", "pelvis_obliquity", "trunk_right_bend", "trunk_left_rotation"}
    sign = np.array([-1 if name in middle else 1 for name in ANGLE_NAMES])
    swapped = sign * second.values[:, [ANGLE[name] for name in other]]
    assert apart_deg(first.values, swapped)[:, first.observable].max() < 1e-6


@given(seeds)
def test_no_frame_is_ever_a_mirror_image(seed: int) -> None:
    points = standing_person() + np.random.default_rng(seed).normal(scale=0.1, size=(8, 17, 3))
    feet = feet_of_markers(markers_of_joints(points).positions)
    for frames in (
        segments_of_joints(points, feet).frames,
        segments_of_markers(bodies.markers(bodies.random_angles(8, seed))).frames,
    ):
        assert len(frames) == 12
        for frame in frames.values():
            np.testing.assert_allclose(np.linalg.det(frame), 1, atol=1e-9)


def test_the_references_pelvis_lies_on_its_back_and_its_left_side_is_mirrored() -> None:
    markers = bodies.markers(standing_angles())
    ours, theirs = segments_of_markers(markers).frames, reference_segments(markers).frames
    up = np.array([0, 1, 0])
    assert up @ ours["pelvis"][0, :, 1] > 0.99
    assert up @ theirs["pelvis"][0, :, 1] < 0.2
    assert up @ ours["right_femur"][0, :, 1] > 0.99
    assert up @ theirs["right_femur"][0, :, 1] < -0.99
    assert np.linalg.det(ours["left_tibia"])[0] > 0
    assert np.linalg.det(theirs["left_tibia"])[0] < 0


def hip_rotation(knee_flexion: float, shift: float) -> tuple[Angles, float]:
    values = bodies.angles(right_knee_flexion=knee_flexion, right_hip_internal_rotation=25)
    points, _ = bodies.joints(values)
    points[:, LEGS[1][1], 2] += shift
    angles = joint_angles(points)
    return angles, float(angles.values[0, ANGLE["right_hip_internal_rotation"]])


def test_a_straight_limb_says_little_about_its_turn_and_says_so() -> None:
    column = ANGLE["right_hip_internal_rotation"]
    confidence = [hip_rotation(bend, 0)[0].confidence[0, column] for bend in (0.0, 5.0, BLEND_DEG, 60.0)]
    np.testing.assert_allclose(confidence, [0, 5 / BLEND_DEG, 1, 1], atol=1e-9)
    # a centimetre of noise moves the turn of a nearly straight leg by less than the hinge alone would say
    assert abs(hip_rotation(3.0, 0.01)[1] - hip_rotation(3.0, 0.0)[1]) < 20
    assert abs(hip_rotation(60.0, 0.01)[1] - hip_rotation(60.0, 0.0)[1]) < 5
    arm = ANGLE["right_shoulder_axial_rotation"]
    assert joint_angles(bodies.joints(bodies.angles(right_shoulder_elevation=60))[0]).confidence[0, arm] == 0


def test_arms_hanging_down_have_no_plane_of_elevation() -> None:
    for elevation, expected in ((0.0, 0.0), (5.0, 0.34), (30.0, 1.0)):
        points, _ = bodies.joints(bodies.angles(left_shoulder_elevation=elevation))
        confidence = joint_angles(points).confidence[0, ANGLE["left_shoulder_plane_of_elevation"]]
        assert confidence == pytest.approx(expected, abs=0.01)


def test_what_a_set_of_points_can_tell() -> None:
    points, feet = bodies.joints(seated())
    bare, shod = joint_angles(points), joint_angles(points, feet=feet)
    told = {name for name, seen in zip(ANGLE_NAMES, bare.observable, strict=True) if seen}
    assert {"left_knee_flexion", "right_elbow_flexion", "left_hip_adduction", "trunk_right_bend"} <= told
    assert not {name for name in told if "ankle" in name or "tilt" in name or "pronation" in name}
    assert (bare.confidence[:, ~bare.observable] == 0).all()
    assert np.isnan(bare.values[0, ANGLE["left_ankle_dorsiflexion"]])
    extra = {n for n, a, b in zip(ANGLE_NAMES, bare.observable, shod.observable, strict=True) if a != b}
    assert extra == {"left_ankle_dorsiflexion", "right_ankle_dorsiflexion"}


def test_twenty_two_markers_say_what_their_joints_and_feet_say() -> None:
    points, feet = bodies.joints(seated())
    markers = markers_of_joints(points, feet).positions
    expected, found = joint_angles(points, feet=feet), marker_angles(markers)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-9)
    templates = marker_angles(markers_of_joints(points).positions, feet_observed=False)
    assert np.isnan(templates.values[0, ANGLE["left_ankle_dorsiflexion"]])
    with pytest.raises(StageError, match="missing: LWrist, RKnee"):
        joints_of_markers({name: p for name, p in markers.items() if name not in ("RKnee", "LWrist")})


def test_hidden_joints_lower_the_confidence_of_their_angles_only() -> None:
    points, _ = bodies.joints(seated())
    visibility = np.ones((1, 17))
    visibility[0, ARMS[0][2]] = 0.25  # left wrist
    found, full = joint_angles(points, visibility), joint_angles(points)
    changed = {name for name, c, f in zip(ANGLE_NAMES, found.confidence[0], full.confidence[0], strict=True)
               if c != f}  # fmt: skip
    assert changed == {"left_elbow_flexion"}
    assert found.confidence[0, ANGLE["left_elbow_flexion"]] == 0.25


def test_missing_joints_give_no_number_and_leave_the_other_limbs_alone() -> None:
    points, _ = bodies.joints(seated())
    points[0, LEGS[0][1]] = np.nan  # left knee
    found = joint_angles(points)
    lost = {CHAIN[k // 3].name for k in range(36) if np.isnan(found.values[0, k])}
    assert lost == {"left_hip", "left_knee", "left_ankle", "right_ankle"}
    assert np.isfinite(found.confidence).all()


def test_a_person_before_the_camera_faces_forward_whatever_its_elevation() -> None:
    for height in (1.15, 3.0):
        camera = camera_at((0.0, height, 4.0), (0, 1.15, 0))
        seen = (standing_person() - camera.centre) @ camera.rotation.T
        found = joint_angles(camera_to_vertical(seen, up_in_camera(camera))[None])
        rotation, obliquity = read(found.values, "pelvis_rotation", "pelvis_obliquity")
        assert rotation == pytest.approx(0, abs=1e-6)
        assert obliquity == pytest.approx(0, abs=1e-6)
    # untold of the elevation, the trunk seems to lean
    levelled = joint_angles(camera_to_vertical(seen)[None])
    assert abs(read(levelled.values, "pelvis_tilt")[0]) > 15


def test_wrong_shapes_are_refused() -> None:
    points = standing_person()[None]
    with pytest.raises(StageError, match="points must be"):
        joint_angles(points[0])
    with pytest.raises(StageError, match="feet must be"):
        joint_angles(points, feet=np.zeros((1, 2, 3)))
    with pytest.raises(StageError, match="visibility must be"):
        joint_angles(points, np.ones(17))
