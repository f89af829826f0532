from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import pack
from stages.pose.capture.checks import UNUSABLE
from stages.pose.capture.store import SequenceStore
from stages.pose.model import windows
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import Window, make_window, mirror_window, read_window
from stages.pose.simulation.packed import COLUMNS, INPUTS, Packed, PackedRole
from tests.pose.conftest import Lane, contents, pack_params


@pytest.fixture
def train_role(lane: Lane) -> PackedRole:
    return Packed.open(lane.packed).role("train")


def some_window(seed: int = 0, b: int = 3, k: int = 5) -> Window:
    rng = np.random.default_rng(seed)
    return make_window(
        rng.normal(0, 0.4, (b, k, 17, 3)), rng.uniform(0, 1, (b, k, 17)), rng.normal(0, 300, (b, k, 17, 2))
    )


def test_equal_input_gives_equal_bytes(lane: Lane, tmp_path: Path) -> None:
    metrics = pack.run(pack_params(), lane.sequences, tmp_path / "packed", Observer.quiet(tmp_path / "s"))
    assert metrics == lane.metrics["pack"]
    assert contents(tmp_path / "packed") == contents(lane.packed)


def test_every_usable_frame_of_the_store_is_packed_once_and_training_thrice(lane: Lane) -> None:
    store, packed = SequenceStore.open(lane.sequences), Packed.open(lane.packed)
    usable = {
        (seq, cam, int(frame))
        for cam in store.camera_names()
        for seq, columns in store.views(cam)
        for frame in columns["frame"][(columns["flags"] & UNUSABLE) == 0]
    }
    rows = []
    for role in packed.roles():
        part = packed.role(role)
        names = [f"c{cam:02d}" for cam in part["cam"]]
        keys = list(zip(part["seq"].tolist(), names, part["frame"].tolist(), strict=True))
        assert len(keys) == (3 if role == "train" else 1) * len(set(keys))
        rows += set(keys)
        assert not np.isnan(part["sim_pose"]).any()
        assert not np.isnan(part["gt_pose"]).any()
    assert len(rows) == len(set(rows))
    assert set(rows) == usable
    assert lane.metrics["pack"]["n_rows_left_out"] == lane.metrics["convert"]["n_rows"] - len(usable)


def test_labels_are_the_stores(lane: Lane) -> None:
    store, packed = SequenceStore.open(lane.sequences), Packed.open(lane.packed)
    part = packed.role("test")
    view = part.views.iloc[4]
    rows = slice(view["first_row"], view["first_row"] + view["n_rows"])
    seq = store.sequences.set_index("name").loc[view["sequence"], "seq"]
    columns = dict(store.views(view["cam"]))[seq]
    kept = np.isin(columns["frame"], part["frame"][rows])
    for name, source in {"gt_pose": "gt_cam_xyz", "view_dir": "view_dir", "flags": "flags"}.items():
        np.testing.assert_array_equal(part[name][rows], columns[source][kept])


def test_draws_differ_in_their_errors_alone(train_role: PackedRole) -> None:
    first, second = (train_role.views[train_role.views["draw"] == draw].iloc[0] for draw in (0, 1))
    assert first["clip"] == second["clip"]
    a, b = (slice(v["first_row"], v["first_row"] + v["n_rows"]) for v in (first, second))
    np.testing.assert_array_equal(train_role["gt_pose"][a], train_role["gt_pose"][b])
    assert np.abs(train_role["sim_pose"][a] - train_role["sim_pose"][b]).mean() > 0.02


def test_neighbours_stay_in_the_view_and_skip_what_was_left_out(train_role: PackedRole) -> None:
    offsets = np.array([-24, -3, 0, 3, 24])
    rows = np.arange(len(train_role))
    near = train_role.neighbours(rows, offsets)
    assert (near[:, 2] == rows).all()
    view = np.searchsorted(train_role.views["first_row"], rows, side="right")
    for column, offset in enumerate(offsets):
        assert (np.searchsorted(train_role.views["first_row"], near[:, column], side="right") == view).all()
        got = train_role["frame"][near[:, column]].astype(int)
        wanted = train_role["frame"].astype(int) + offset
        first = train_role["frame"][train_role.views["first_row"].to_numpy()][view - 1]
        assert ((got <= wanted) | (got == first)).all()
        inside = np.isin(wanted, train_role["frame"]) & (got == wanted)
        assert inside.mean() > 0.5


def test_neighbours_of_a_piece_that_starts_late_stay_in_it() -> None:
    frames = np.concatenate([np.arange(10), np.arange(50, 60)]).astype(np.int32)
    views = pd.DataFrame({"id": ["a", "b"], "first_row": [0, 10], "n_rows": [10, 10]})
    role = PackedRole("val", {"frame": frames}, views)
    near = role.neighbours(np.array([0, 9, 10, 19]), np.array([-3, 0, 3]))
    assert near.tolist() == [[0, 0, 3], [6, 9, 9], [10, 10, 13], [16, 19, 19]]


def test_a_role_without_rows_is_named(lane: Lane) -> None:
    with pytest.raises(StageError, match="no rows of role gate2"):
        Packed.open(lane.packed).role("gate2")


def test_a_model_reads_nothing_but_the_inputs(lane: Lane) -> None:
    """Predictions stay the same, to the bit, with every column that is no input replaced by noise."""
    packed = Packed.open(lane.packed)
    role, refiner = packed.role("test"), Refiner.load(lane.model, 1)
    rng = np.random.default_rng(0)
    positions = {"frame", "cam", "seq"}  # which rows are neighbours
    assert set(COLUMNS) == set(role.columns)
    spoiled = {
        name: column if name in INPUTS or name in positions else rng.permutation(column)
        for name, column in role.columns.items()
    }
    assert not np.array_equal(spoiled["gt_pose"], role["gt_pose"])
    rows = np.arange(0, len(role), 37)
    honest, _ = refiner.refine_rows(role, rows, packed.fps, packed.frame_step)
    blind, _ = refiner.refine_rows(
        PackedRole("test", spoiled, role.views), rows, packed.fps, packed.frame_step
    )
    np.testing.assert_array_equal(honest, blind)


def test_mirroring_a_window_twice_changes_nothing() -> None:
    window = some_window()
    twice = mirror_window(mirror_window(window))
    for name in ("pose", "visibility", "seen"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(window, name))


def test_a_mirrored_window_is_the_window_of_the_mirrored_picture() -> None:
    """Poses, visibility and detections swap together: what a camera would see of the mirrored person."""
    rng = np.random.default_rng(1)
    pose, visibility = rng.normal(0, 0.4, (2, 3, 17, 3)), rng.uniform(0, 1, (2, 3, 17))
    uv = 960 + 300 * pose[..., :2]
    swap = windows.SWAP
    mirrored = make_window(
        pose[..., swap, :] * [-1, 1, 1], visibility[..., swap], (uv * [-1, 1] + [1919, 0])[..., swap, :]
    )
    found = mirror_window(make_window(pose, visibility, uv))
    for name in ("pose", "visibility", "seen"):
        np.testing.assert_allclose(getattr(found, name), getattr(mirrored, name), atol=1e-5)


def test_detections_count_in_metres_whatever_the_size_and_place_of_the_picture() -> None:
    rng = np.random.default_rng(2)
    pose = rng.normal(0, 0.3, (2, 1, 17, 3))
    pose[..., 11, :], pose[..., 12, :] = -pose[..., 12, :], pose[..., 12, :]
    visibility = np.ones((2, 1, 17))
    uv = 400 * pose[..., :2] + [960, 540]
    seen = make_window(pose, visibility, uv).seen
    np.testing.assert_allclose(seen, pose[..., :2], atol=1e-5)
    np.testing.assert_allclose(make_window(pose, visibility, 0.5 * uv - 77).seen, seen, atol=1e-5)


def test_without_detections_the_pose_stands_in() -> None:
    pose = np.random.default_rng(3).normal(0, 0.3, (2, 5, 17, 3)).astype(np.float32)
    np.testing.assert_array_equal(make_window(pose, np.ones((2, 5, 17)), None).seen, pose[..., :2])


def test_outliers_are_clipped() -> None:
    pose = np.zeros((1, 1, 17, 3))
    pose[..., 9, 2] = 3.7
    assert make_window(pose, np.ones((1, 1, 17)), None).pose.max() == np.float32(windows.REACH)


def test_windows_gather_each_frames_neighbours(train_role: PackedRole) -> None:
    offsets = np.array([-2, 0, 2])
    rows = np.array([70, 5, 71])
    window = read_window(train_role, rows, offsets)
    near = train_role.neighbours(rows, offsets)
    expected = np.clip(
        train_role["sim_pose"][near.ravel()].reshape(3, 3, 17, 3), -windows.REACH, windows.REACH
    )
    np.testing.assert_array_equal(window.pose, expected)


def test_offsets_follow_the_frame_rate_and_hold_the_frame_itself() -> None:
    assert windows.frame_offsets((-0.1, 0.0, 0.1), 60, 1).tolist() == [-6, 0, 6]
    assert windows.frame_offsets((-0.1, 0.0, 0.1), 20, 3).tolist() == [-6, 0, 6]
    with pytest.raises(ValueError, match="the frame itself"):
        windows.frame_offsets((-0.1, 0.1), 60, 1)
