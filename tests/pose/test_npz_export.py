"""Single samples in the description's forms: they come back as what was packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import StageError
from stages.pose.body.frames import project, world_to_camera
from stages.pose.body.skeleton import HIPS, mid, torso_length
from stages.pose.capture.annotations import read_annotations, read_poses, read_rig
from stages.pose.capture.store import SequenceStore
from stages.pose.kinematics.angles import joint_angles, world_to_vertical
from stages.pose.simulation.npz_export import export_npz, restore_poses
from stages.pose.simulation.packed import Packed
from tests.pose.conftest import Lane, contents

LIMIT = 40
FIELDS = {
    "corrupted": (17, 3), "ground_truth": (17, 3), "visibility": (17,), "pose_2d": (17, 2),
    "projected_2d": (17, 2), "azimuth": (), "elevation": (), "camera_relative": (3,), "camera_R": (3, 3),
    "mp_scale": (), "gt_scale": (), "sequence": (), "frame_idx": (),
}  # fmt: skip


def load(folder: Path) -> list[tuple[str, dict[str, np.ndarray]]]:
    """(camera, arrays) of every file; opened without pickles."""
    loaded = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            loaded.append((path.stem.split("_")[-2], dict(file)))
    return loaded


@pytest.fixture(scope="module")
def exported(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("npz") / "samples"
    count = export_npz(Packed.open(lane.packed), SequenceStore.open(lane.sequences), "train", LIMIT, output)
    assert count == LIMIT
    return output


def test_a_sample_holds_the_stated_arrays_and_no_object(exported: Path) -> None:
    samples = load(exported / "pose")
    assert len(samples) == LIMIT
    for _, sample in samples:
        assert {name: array.shape for name, array in sample.items()} == FIELDS
        assert all(array.dtype.kind in "fiU" for array in sample.values())
        assert all(np.isfinite(array).all() for array in sample.values() if array.dtype.kind == "f")


def test_poses_come_back_as_they_were_packed(lane: Lane, exported: Path) -> None:
    packed, store = Packed.open(lane.packed), SequenceStore.open(lane.sequences)
    part = packed.role("train")
    number = store.sequences.set_index("name")["seq"]
    for cam, sample in load(exported / "pose"):
        same = (part["seq"] == number[str(sample["sequence"])]) & (part["cam"] == int(cam[1:]))
        row = np.flatnonzero(same & (part["frame"] == sample["frame_idx"]))[0]  # the first draw
        estimate, truth = restore_poses(sample)
        np.testing.assert_allclose(estimate, part["sim_pose"][row], atol=1e-6)
        np.testing.assert_allclose(truth, part["gt_pose"][row], atol=1e-6)
        np.testing.assert_array_equal(sample["visibility"], part["sim_visibility"][row])
        np.testing.assert_allclose(sample["pose_2d"] * [1920, 1080], part["sim_uv_px"][row], atol=1e-3)


def test_poses_are_upright_torso_lengths_about_the_hips(exported: Path) -> None:
    for _, sample in load(exported / "pose"):
        for name in ("corrupted", "ground_truth"):
            assert torso_length(sample[name]) == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(mid(sample[name], HIPS), 0, atol=1e-5)
    heads = [sample["ground_truth"][0, 1] for _, sample in load(exported / "pose")]
    assert np.median(heads) > 0.8


def test_camera_rotation_and_place_lead_back_to_the_world(lane: Lane, exported: Path) -> None:
    """Truth in world axes, camera place and projection agree with the raw annotations."""
    annotations = read_annotations(lane.raw)
    for cam, sample in load(exported / "pose"):
        name, frame = str(sample["sequence"]), int(sample["frame_idx"])
        camera = {c.name: c for c in read_rig(lane.raw, annotations.settings[name])}[cam]
        world = read_poses(annotations.files[name])[0][frame]
        if not np.isfinite(world).all():
            continue  # a short gap that was filled
        _, truth = restore_poses(sample)
        np.testing.assert_allclose(truth @ sample["camera_R"], world - mid(world, HIPS), atol=1e-5)
        np.testing.assert_allclose(sample["camera_relative"], camera.centre - mid(world, HIPS), atol=1e-5)
        exact = project(world_to_camera(world, camera), camera) / camera.size
        np.testing.assert_allclose(sample["projected_2d"], exact, atol=1e-5)
        assert 0 <= sample["azimuth"] < 360
        assert abs(sample["elevation"]) < 90


def test_angles_are_those_of_the_poses_in_the_worlds_axes(exported: Path) -> None:
    """The pelvis's angles aside, which also tell the heading, here against the camera."""
    poses = dict(
        zip(
            (str(s["frame_idx"]) + c + str(s["sequence"]) for c, s in load(exported / "pose")),
            (s for _, s in load(exported / "pose")),
            strict=True,
        )
    )
    for cam, sample in load(exported / "angles"):
        pose = poses[str(sample["frame_idx"]) + cam + str(sample["sequence"])]
        _, truth = restore_poses(pose)
        world = world_to_vertical((truth @ pose["camera_R"])[None])
        expected = joint_angles(world).values.reshape(12, 3)
        assert sample["joints"].tolist()[0] == "pelvis"
        apart = (sample["ground_truth"] - expected + 180) % 360 - 180
        seen = sample["observable"] & np.isfinite(expected)
        seen[0, 0] = False  # the heading
        assert seen.sum() >= 15
        assert np.abs(apart[seen]).max() < 0.1
        assert sample["corrupted"].shape == sample["observable"].shape == (12, 3)
        assert sample["visibility"].shape == (12,)
        assert sample["visibility"].min() >= pose["visibility"].min()


def test_equal_input_gives_equal_bytes(lane: Lane, exported: Path, tmp_path: Path) -> None:
    packed, store = Packed.open(lane.packed), SequenceStore.open(lane.sequences)
    export_npz(packed, store, "train", LIMIT, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(exported)


def test_the_limit_holds_and_a_folder_in_use_or_another_store_is_an_error(
    lane: Lane, exported: Path, tmp_path: Path
) -> None:
    packed, store = Packed.open(lane.packed), SequenceStore.open(lane.sequences)
    assert export_npz(packed, store, "val", 1, tmp_path / "one") == 1
    rows = len(packed.role("val"))
    assert export_npz(packed, store, "val", 10 * rows, tmp_path / "all") == rows
    with pytest.raises(StageError, match="not empty"):
        export_npz(packed, store, "val", 1, exported)
    import shutil

    shutil.copytree(lane.packed, tmp_path / "packed")
    pose = np.load(tmp_path / "packed" / "val" / "gt_pose.npy")
    np.save(tmp_path / "packed" / "val" / "gt_pose.npy", pose + 1)
    with pytest.raises(StageError, match="was not packed from"):
        export_npz(Packed.open(tmp_path / "packed"), store, "val", 1, tmp_path / "other")
