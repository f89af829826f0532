from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.core.errors import StageError
from stages.pose.body.skeleton import JOINT, SWAP, torso_length
from stages.pose.kinematics.angles import world_to_vertical
from stages.pose.kinematics.augmenter import LOWER_INPUTS, UPPER_INPUTS, Augmenter, heading
from stages.pose.kinematics.markers import (
    AUGMENTED,
    BASIC,
    JOINT_OF,
    LOWER,
    UPPER,
    feet_of_markers,
    joints_of_markers,
    markers_of_joints,
)
from stages.pose.kinematics.trc import read_trc, to_calibration_world, write_trc
from tests.pose import bodies
from tests.pose.test_frames import standing_person

seeds = st.integers(0, 2**32 - 1)
TRIALS = ("S00_P00_T00_StaticTrial/pose-3d/S00_P00_T00_StaticTrial_0-12",
          "S00_P00_T01_BalancingTrial/pose-3d/S00_P00_T01_BalancingTrial_0-100")  # fmt: skip


def some_poses(n: int = 6, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(n, 17, 3))
    return world_to_vertical(standing_person()) + noise


def test_the_sets_hold_what_they_say() -> None:
    assert (len(BASIC), len(LOWER), len(UPPER), len(AUGMENTED)) == (22, 35, 8, 65)
    assert len(set(AUGMENTED)) == 65
    assert len(JOINT_OF) == 13
    assert (len(LOWER_INPUTS), len(UPPER_INPUTS)) == (15, 7)


def test_markers_that_are_joints_are_those_joints_on_their_own_side() -> None:
    points = some_poses()
    markers = markers_of_joints(points).positions
    assert tuple(markers) == BASIC
    np.testing.assert_array_equal(markers["LWrist"], points[:, JOINT["left_wrist"]])
    np.testing.assert_array_equal(markers["RAnkle"], points[:, JOINT["right_ankle"]])
    again = joints_of_markers(markers)
    shown = list(JOINT_OF.values())
    np.testing.assert_array_equal(again[:, shown], points[:, shown])
    assert np.isnan(again[:, JOINT["left_eye"]]).all()


def test_a_standing_persons_feet_point_forwards_under_the_ankles() -> None:
    points, _ = bodies.joints(bodies.angles())
    scale = float(torso_length(points)[0]) / 0.5
    found = markers_of_joints(points)
    marked = {name: place[0] for name, place in found.positions.items()}
    for letter, outwards in (("R", 1), ("L", -1)):
        heel = marked[f"{letter}Heel"]
        np.testing.assert_allclose(
            heel - marked[f"{letter}Ankle"], scale * np.array([-0.05, -0.03, 0]), atol=1e-9
        )
        np.testing.assert_allclose(marked[f"{letter}BigToe"] - heel, [0.2 * scale, 0, 0], atol=1e-9)
        little = marked[f"{letter}SmallToe"] - marked[f"{letter}BigToe"]
        np.testing.assert_allclose(little, [0, 0, 0.03 * scale * outwards], atol=1e-9)
        assert not found.observed[f"{letter}Heel"][0]
    head = marked["Head"] - marked["Nose"]
    assert np.linalg.norm(head) == pytest.approx(0.15 * scale)
    np.testing.assert_allclose(np.cross(head, marked["Nose"] - marked["Neck"]), 0, atol=1e-12)


@given(seeds)
def test_markers_turn_scale_and_mirror_with_the_person(seed: int) -> None:
    points = some_poses(seed=seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    first, second = (markers_of_joints(p).positions for p in (points, 3 * points @ turn.T))
    for name in BASIC:
        np.testing.assert_allclose(second[name], 3 * first[name] @ turn.T, atol=1e-9)
    mirrored = markers_of_joints((points @ bodies.MIRROR)[:, SWAP]).positions
    for name in BASIC:
        other = {"L": "R", "R": "L"}[name[0]] + name[1:] if name[0] in "LR" else name
        np.testing.assert_allclose(mirrored[name], first[other] @ bodies.MIRROR, atol=1e-9)


def test_feet_that_were_seen_replace_the_template_one_by_one() -> None:
    points, feet = bodies.joints(bodies.angles(3, left_ankle_dorsiflexion=20.0))
    feet[1, 0] = np.nan
    feet[2, 1, 1] = np.nan
    found, template = markers_of_joints(points, feet), markers_of_joints(points)
    np.testing.assert_array_equal(found.positions["LHeel"][0], feet[0, 0, 0])
    np.testing.assert_array_equal(found.positions["LBigToe"][1], template.positions["LBigToe"][1])
    assert found.observed["LHeel"].tolist() == [True, False, True]
    assert found.observed["RBigToe"].tolist() == [True, True, False]
    assert not found.observed["LSmallToe"].any()
    assert all(np.isfinite(place).all() for place in found.positions.values())
    np.testing.assert_array_equal(feet_of_markers(found.positions)[0], feet[0])


def test_wrong_shapes_and_missing_markers_are_named() -> None:
    points = some_poses()
    with pytest.raises(StageError, match="points must be"):
        markers_of_joints(points[:, :16])
    with pytest.raises(StageError, match="heel and tip"):
        markers_of_joints(points, np.zeros((6, 2, 3)))
    with pytest.raises(StageError, match="missing: LHeel, RBigToe"):
        feet_of_markers({name: points[:, 0] for name in BASIC if name not in ("LHeel", "RBigToe")})


def test_a_folder_without_the_augmenter_is_refused_by_file(tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / "mean.npy").touch()
    with pytest.raises(StageError, match=r"lacks lower/model\.onnx, lower/std\.npy, upper/model\.onnx"):
        Augmenter.load(tmp_path)


@pytest.fixture
def augmenter(realdata: Path) -> Augmenter:
    pytest.importorskip("onnxruntime")
    return Augmenter.load(realdata / "pose_multiview" / "marker_augmenter_lstm_v0.3")


def trial(realdata: Path, name: str, suffix: str) -> dict[str, np.ndarray]:
    path = realdata / "pose_multiview" / "S00_P00_SingleParticipant" / f"{name}{suffix}.trc"
    return read_trc(path).markers


@pytest.mark.realdata
@pytest.mark.parametrize("name", TRIALS)
def test_the_augmenter_gives_what_pose2sim_wrote(augmenter: Augmenter, realdata: Path, name: str) -> None:
    markers = trial(realdata, name, "_filt_butterworth")
    markers["Hip"] = (markers["LHip"] + markers["RHip"]) / 2
    expected = trial(realdata, name, "_filt_butterworth_LSTM")
    found = augmenter.augment(markers, 1.72, 70.0, turn_to_front=False)
    assert tuple(found) == AUGMENTED
    to_floor = expected["RHip"] - found["RHip"]  # Pose2Sim sets the feet on the floor when it writes
    for marker in (*LOWER, *UPPER):
        np.testing.assert_allclose(found[marker] + to_floor, expected[marker], atol=1e-6)


def moved_m(
    augmenter: Augmenter,
    markers: dict[str, np.ndarray],
    turn: np.ndarray,
    names: tuple[str, ...],
    **how: bool,
) -> float:
    """How far turning the person moves `names`, mean over them and time, after turning them back."""
    straight = augmenter.augment(markers, 1.72, 70.0, **how)
    turned = augmenter.augment({name: place @ turn.T for name, place in markers.items()}, 1.72, 70.0, **how)
    return float(np.mean([np.linalg.norm(turned[n] @ turn - straight[n], axis=-1).mean() for n in names]))


@pytest.mark.realdata
@pytest.mark.parametrize("degrees", [90, 180])
@pytest.mark.parametrize("name", TRIALS)
def test_which_way_a_person_faces_moves_no_marker_by_a_centimetre(
    augmenter: Augmenter, realdata: Path, name: str, degrees: int
) -> None:
    markers = trial(realdata, name, "_filt_butterworth")
    markers["Hip"] = (markers["LHip"] + markers["RHip"]) / 2
    yaw = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
    assert moved_m(augmenter, markers, yaw, (*LOWER, *UPPER)) < 1e-4
    assert moved_m(augmenter, markers, yaw, LOWER, turn_to_front=False) < 0.01
    assert moved_m(augmenter, markers, yaw, UPPER, turn_to_front=False) > 0.01  # why it is turned first
    pitch = Rotation.from_euler("z", -30, degrees=True).as_matrix()
    assert moved_m(augmenter, markers, pitch, (*LOWER, *UPPER)) > 0.005  # why gravity has to be given


def test_the_front_is_found_whatever_way_a_person_faces() -> None:
    markers = markers_of_joints(bodies.joints(bodies.angles(5, pelvis_tilt=10.0))[0]).positions
    for degrees in (0, 70, -150):
        yaw = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        turn = heading({name: place @ yaw.T for name, place in markers.items()})
        np.testing.assert_allclose(turn @ yaw, np.eye(3), atol=1e-9)


@pytest.mark.realdata
def test_the_augmenter_names_bad_input(augmenter: Augmenter) -> None:
    markers = markers_of_joints(some_poses()).positions
    with pytest.raises(StageError, match="missing: Neck"):
        augmenter.augment({name: p for name, p in markers.items() if name != "Neck"}, 1.7, 70)
    with pytest.raises(StageError, match="height is 172 m"):
        augmenter.augment(markers, 172, 70)
    with pytest.raises(StageError, match="not finite: LKnee"):
        augmenter.augment(dict(markers) | {"LKnee": np.full((6, 3), np.nan)}, 1.7, 70)


@pytest.mark.parametrize("units", ["m", "mm"])
def test_trc_files_come_back(tmp_path: Path, units: str) -> None:
    markers = dict(markers_of_joints(some_poses()).positions)
    markers["Head"] = markers["Head"].copy()
    markers["Head"][2] = np.nan
    markers["RWrist"] = np.full((6, 3), np.nan)  # the last column of all
    write_trc(tmp_path / "a.trc", markers, 60.0, units)
    found = read_trc(tmp_path / "a.trc")
    assert tuple(found.markers) == BASIC
    assert (found.rate, found.units) == (60.0, units)
    for name, place in markers.items():
        np.testing.assert_allclose(found.markers[name], place, atol=1e-6)
    np.testing.assert_allclose(found.times, np.arange(6) / 60, atol=1e-6)
    write_trc(tmp_path / "b.trc", markers, 60.0, units)
    first, second = ((tmp_path / f"{name}.trc").read_text() for name in "ab")
    assert first.replace("a.trc", "b.trc") == second
    assert str(tmp_path) not in first


def test_damaged_trc_files_are_named_with_all_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.trc"
    write_trc(path, markers_of_joints(some_poses()).positions, 60.0)
    whole = path.read_text()
    path.write_text(whole.replace("\tm\t", "\tinch\t").replace("\t22\t", "\t21\t"))
    with pytest.raises(StageError, match=r"a\.trc: units are 'inch'.*NumMarkers is 21, but there are 22"):
        read_trc(path)
    path.write_text(whole[: len(whole) - 30])
    with pytest.raises(StageError, match=r"line 12 has \d+ fields instead of 68"):
        read_trc(path)
    path.write_text(whole.replace("LKnee", "RKnee"))
    with pytest.raises(StageError, match="occur twice: RKnee"):
        read_trc(path)
    for text in ("", "time,x\n0,1\n" * 9):
        path.write_text(text)
        with pytest.raises(StageError, match="no TRC file"):
            read_trc(path)
    with pytest.raises(StageError, match="cannot be read"):
        read_trc(tmp_path / "none.trc")


def test_unwritable_markers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="units must be one of"):
        write_trc(tmp_path / "a.trc", {"Hip": np.zeros((2, 3))}, 60.0, "inch")
    with pytest.raises(StageError, match=r"not Neck \(3, 3\)"):
        write_trc(tmp_path / "a.trc", {"Hip": np.zeros((2, 3)), "Neck": np.zeros((3, 3))}, 60.0)
    with pytest.raises(StageError, match="no frames"):
        write_trc(tmp_path / "a.trc", {}, 60.0)


@pytest.mark.realdata
@pytest.mark.parametrize("suffix", ["", "_filt_butterworth", "_filt_butterworth_LSTM"])
@pytest.mark.parametrize("name", TRIALS)
def test_the_files_of_pose2sim_are_read(realdata: Path, name: str, suffix: str) -> None:
    markers = trial(realdata, name, suffix)
    assert len(markers) == (64 if suffix.endswith("LSTM") else 21)
    assert set(BASIC) - set(markers) == {"Hip"}
    assert (markers["Nose"][:, 1] > markers["LHip"][:, 1]).all()  # y is up
    world = to_calibration_world(markers["Nose"])
    np.testing.assert_array_equal(world[:, 2], markers["Nose"][:, 1])  # as z is in the calibration's world
    assert 0.3 < np.linalg.norm(markers["LHip"] - markers["LKnee"], axis=-1).mean() < 0.6


@pytest.mark.realdata
def test_angles_of_a_standing_person_are_those_of_standing(realdata: Path) -> None:
    from stages.pose.kinematics.angles import marker_angles
    from stages.pose.kinematics.reference import reference_segments
    from stages.pose.kinematics.segments import segments_of_markers

    markers = trial(realdata, TRIALS[0], "_filt_butterworth_LSTM")
    found = marker_angles(markers)
    for name in ("pelvis_obliquity", "left_hip_flexion", "right_knee_flexion", "left_ankle_dorsiflexion"):
        assert np.abs(found.values[:, bodies.ANGLE[name]]).max() < 20
    ours = segments_of_markers(markers).frames["pelvis"]
    theirs = reference_segments(markers).frames["pelvis"]
    assert (ours[:, 1, 1] > 0.95).all()  # superior is up
    assert (theirs[:, 1, 1] < 0.3).all()
