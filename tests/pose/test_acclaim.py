"""Acclaim's skeletons and motions: known poses by hand, broken files, a real subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.pose.body.frames import body_axes
from stages.pose.body.skeleton import ARMS, EARS, EYES, JOINT, LEGS, LIMBS, NOSE, SHOULDERS, bone_lengths, mid
from stages.pose.capture.acclaim import (
    BONES_USED,
    INCH,
    Skeleton,
    forward,
    read_motion,
    read_skeleton,
    seventeen_joints,
)
from stages.pose.capture.annotations import SequenceError
from stages.pose.phantom_mocap import write_subject

ARM = """
:version 1.10
:units
  mass 1.0
  length {length}
  angle {angle}
:root
   order {order}
   axis {root_axis}
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 1 0 0
     length 2
     axis {axis}
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name lower
     direction 1 0 0
     length 1
     axis 0 0 0 XYZ
    dof rz
    limits (0 150)
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""


def arm(folder: Path, **changes: str) -> Skeleton:
    """Two bones along x, 2 and 1 units long; a unit is an inch."""
    plain = {
        "length": "1.0",
        "angle": "deg",
        "order": "TX TY TZ RX RY RZ",
        "root_axis": "XYZ",
        "axis": "0 0 0 XYZ",
    }
    path = folder / "01.asf"
    path.write_text(ARM.format(**(plain | changes)))
    return read_skeleton(path)


def moved(skeleton: Skeleton, **values: list[float]) -> dict[str, np.ndarray]:
    """Ends of the bones in file units after one frame's values."""
    rest = {"root": [0.0] * 6, "upper": [0.0] * 3, "lower": [0.0]}
    motion = {name: np.array([value] * 2) for name, value in (rest | values).items()}
    _, ends, _ = forward(skeleton, motion)
    return {name: end[0] / skeleton.scale for name, end in ends.items()}


def test_at_rest_bones_lie_along_their_directions_and_units_are_scaled_inches(tmp_path: Path) -> None:
    assert arm(tmp_path).scale == INCH
    skeleton = arm(tmp_path, length="0.45")
    assert skeleton.scale == pytest.approx(0.0254 / 0.45)
    ends = moved(skeleton)
    np.testing.assert_allclose(ends["upper"], [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(ends["lower"], [3, 0, 0], atol=1e-12)


def test_a_bend_turns_what_hangs_on_it_and_nothing_else(tmp_path: Path) -> None:
    ends = moved(arm(tmp_path), lower=[90.0])
    np.testing.assert_allclose(ends["upper"], [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(ends["lower"], [2, 1, 0], atol=1e-12)
    ends = moved(arm(tmp_path), upper=[0.0, 90.0, 0.0], lower=[90.0])
    np.testing.assert_allclose(ends["upper"], [0, 0, -2], atol=1e-12)
    np.testing.assert_allclose(ends["lower"], [0, 1, -2], atol=1e-12)


def test_angles_act_in_the_order_of_the_file(tmp_path: Path) -> None:
    """X before Y before Z: about X nothing moves along X; about Y the bone goes to -Z, where Z leaves it."""
    np.testing.assert_allclose(
        moved(arm(tmp_path), upper=[90.0, 90.0, 90.0])["upper"], [0, 0, -2], atol=1e-12
    )
    turned = {"root": [0.0, 0.0, 0.0, 0.0, 90.0, 90.0]}
    np.testing.assert_allclose(moved(arm(tmp_path), **turned)["upper"], [0, 0, -2], atol=1e-12)
    other = moved(arm(tmp_path, root_axis="ZYX"), **turned)["upper"]  # Z first: to +Y, where Y leaves it
    np.testing.assert_allclose(other, [0, 2, 0], atol=1e-12)


def test_the_roots_values_come_in_the_order_that_the_file_states(tmp_path: Path) -> None:
    plain = moved(arm(tmp_path), root=[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    other = moved(arm(tmp_path, order="RZ RY RX TX TY TZ"), root=[30.0, 20.0, 10.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(plain["root"], [1, 2, 3], atol=1e-12)
    for name in plain:
        np.testing.assert_allclose(plain[name], other[name], atol=1e-12)


@given(st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.floats(-180, 180)] * 3))
def test_a_bones_axis_is_the_frame_in_which_it_turns(
    axis: tuple[float, ...], angles: tuple[float, ...]
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        skeleton = arm(Path(folder), axis=" ".join(map(str, axis)) + " XYZ")
    c, m = (Rotation.from_euler("xyz", values, degrees=True).as_matrix() for values in (axis, angles))
    expected = c @ m @ c.T @ [2, 0, 0]
    np.testing.assert_allclose(moved(skeleton, upper=list(angles))["upper"], expected, atol=1e-9)


def test_radians_are_read_as_such(tmp_path: Path) -> None:
    ends = moved(arm(tmp_path, angle="rad"), lower=[np.pi / 2])
    np.testing.assert_allclose(ends["lower"], [2, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("direction 1 0 0", "direction 1 1 0", "no unit vector"),
        ("dof rz", "dof tz", "can only turn"),
        ("    root upper", "    upper upper", "do not hang on the root"),
        ("axis 0 0 0 XYZ", "axis 0 0 0 XXZ", "axis order XXZ"),
        ("angle deg", "angle grad", "expected deg or rad"),
        ("order TX TY TZ RX RY RZ", "order TX TY TZ", "root order"),
        ("length 2", "length two", "could not convert"),
        (":units", ":unit", "units"),
    ],
)
def test_a_broken_skeleton_is_a_reason_that_says_what(tmp_path: Path, old: str, new: str, said: str) -> None:
    arm(tmp_path)
    path = tmp_path / "01.asf"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SequenceError, match=said) as caught:
        read_skeleton(path)
    assert caught.value.reason == "broken"


MOTION = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
upper 1 2 3
lower 4
2
root 1 0 0 0 0 0
upper 1 2 3
lower 5
"""


def test_a_motion_is_read_by_bone(tmp_path: Path) -> None:
    path = tmp_path / "01_01.amc"
    path.write_text(MOTION)
    motion = read_motion(path, arm(tmp_path))
    assert {name: values.shape for name, values in motion.items()} == {
        "root": (2, 6),
        "upper": (2, 3),
        "lower": (2, 1),
    }
    assert motion["lower"].ravel().tolist() == [4, 5]
    assert motion["root"][:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lower 5\n", "", r"frames \[2\] lack bones"),
        ("lower 5\n", "low", "line 11"),
        ("upper 1 2 3", "upper 1 2", "does not fit the skeleton"),
        ("lower 4", "tail 4", "does not fit the skeleton"),
        ("lower 4", "lower four", "could not convert"),
        ("\n2\n", "\n3\n", "frame 3 after 1"),
        ("\n2\nroot 1 0 0 0 0 0\nupper 1 2 3\nlower 5\n", "\n", "1 frames"),
        ("\n1\n", "\n", "out of range"),
    ],
)
def test_a_broken_motion_is_a_reason_that_says_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "01_01.amc"
    assert old in MOTION
    path.write_text(MOTION.replace(old, new, 1))
    with pytest.raises(SequenceError, match=said) as caught:
        read_motion(path, arm(tmp_path))
    assert caught.value.reason == "broken"


def test_values_that_are_no_number_become_frames_without_a_label(tmp_path: Path) -> None:
    write_subject(tmp_path, 1, 40, 0, seed=1)
    path = tmp_path / "90_01.amc"
    lines = path.read_text().splitlines()
    k = next(k for k, line in enumerate(lines) if line.startswith("lfemur") and lines.index("5") < k)
    lines[k] = "lfemur nan 0 0"
    path.write_text("\n".join(lines))
    skeleton = read_skeleton(tmp_path / "90.asf")
    missing = np.isnan(seventeen_joints(skeleton, read_motion(path, skeleton))).any(2)
    assert np.argwhere(missing).tolist() == [[4, JOINT["left_knee"]], [4, JOINT["left_ankle"]]]


def test_missing_bones_are_all_named(tmp_path: Path) -> None:
    skeleton = arm(tmp_path)
    motion = {"root": np.zeros((2, 6)), "upper": np.zeros((2, 3)), "lower": np.zeros((2, 1))}
    with pytest.raises(SequenceError) as caught:
        seventeen_joints(skeleton, motion)
    assert caught.value.reason == "wrong_skeleton"
    assert all(name in caught.value.detail for name in BONES_USED)


def test_a_subject_stands_upright_with_every_joint_on_its_side(tmp_path: Path) -> None:
    write_subject(tmp_path, 1, 240, 0, seed=1)
    skeleton = read_skeleton(tmp_path / "90.asf")
    poses = seventeen_joints(skeleton, read_motion(tmp_path / "90_01.amc", skeleton))
    check_person(poses)
    facing = body_axes(poses)[:, 0]
    assert facing[:, 2].mean() > 0.9  # walks along +Z, as the root does
    assert (poses[:, JOINT["left_hip"], 0] > poses[:, JOINT["right_hip"], 0]).all()


def check_person(poses: np.ndarray) -> None:
    """Rigid limbs alike on both sides, feet near the floor, the face in front, a person's height."""
    lengths = bone_lengths(poses, LIMBS)
    np.testing.assert_allclose(lengths, lengths[:1].repeat(len(lengths), 0), atol=1e-6)
    left, right = lengths[0].reshape(2, 2, 2).swapaxes(0, 1)  # arms and legs, each two bones
    np.testing.assert_allclose(left, right, rtol=0.06)
    ankles = poses[:, [chain[-1] for chain in LEGS], 1].min(1)
    assert 0.03 < np.median(ankles) < 0.15
    height = np.median(mid(poses, EYES)[:, 1]) / 0.936  # eyes are at 93.6 % of a standing person's height
    assert 1.5 < height < 2.0
    forward_of = np.einsum("nij,nj->ni", body_axes(poses), poses[:, NOSE] - mid(poses, EARS))
    assert (np.median(forward_of, 0)[0]) > 0.08
    for pair in (EYES, EARS, SHOULDERS, *zip(*ARMS, strict=True)):
        across = poses[:, pair[1]] - poses[:, pair[0]]
        assert np.median(np.einsum("nj,nj->n", across, body_axes(poses)[:, 2])) > 0, pair


@pytest.mark.realdata
def test_a_real_subject_is_a_person(realdata: Path) -> None:
    folder = realdata / "pose_cmu_mocap" / "asfamc_subject02"
    skeleton = read_skeleton(folder / "02.asf")
    for name in ("02_01", "02_02", "02_03"):  # two walks and a run, at 120 frames a second
        poses = seventeen_joints(skeleton, read_motion(folder / f"{name}.amc", skeleton))
        check_person(poses)
        step = np.diff(mid(poses, (JOINT["left_hip"], JOINT["right_hip"])), axis=0)
        assert (
            np.einsum("nj,nj->n", step, body_axes(poses)[1:, 0]) > 0
        ).mean() > 0.95  # people walk forwards
        assert 0.8 < 120 * np.linalg.norm(step, axis=1).mean() < 4  # metres a second
