from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.pose import phantom
from stages.pose.body.skeleton import LEGS, bone_lengths
from stages.pose.capture.annotations import SequenceName, read_annotations, read_poses
from stages.pose.dance import STYLES, dance, random_body
from tests.pose.conftest import Lane, contents, phantom_params


@pytest.fixture(scope="module", params=sorted(STYLES))
def motion(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng([7, sum(map(ord, request.param))])
    return dance(random_body(rng), STYLES[request.param], 240, rng)


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        phantom.run(phantom_params(sequences=6, frames=40), tmp_path / name, Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_another_seed_gives_other_dancers(tmp_path: Path, lane: Lane) -> None:
    phantom.run(phantom_params(seed=21), tmp_path, Observer.quiet(tmp_path / "s"))
    name = sorted((lane.raw / "keypoints3d").glob("*.pkl"))[-1].name
    assert (tmp_path / "keypoints3d" / name).read_bytes() != (lane.raw / "keypoints3d" / name).read_bytes()


def test_planted_defects_come_in_the_stated_numbers(lane: Lane) -> None:
    with (lane.raw / "planted.csv").open(encoding="utf-8") as file:
        planted = list(csv.DictReader(file))
    stated = phantom_params().defects.model_dump()
    assert {name: sum(row["defect"] == name for row in planted) for name in stated} == stated
    assert all((lane.raw / row["file"]).is_file() for row in planted)


def test_splits_follow_the_dancer_as_in_the_real_set(lane: Lane) -> None:
    splits = read_annotations(lane.raw).splits
    assert set(splits.values()) == {"train", "val", "test"}
    for name, split in splits.items():
        assert (split == "test") == (SequenceName.parse(name).dancer % 3 == 0)


def test_more_defects_than_sequences_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="5 defects do not fit into 3 sequences"):
        phantom.run(phantom_params(sequences=3), tmp_path, Observer.quiet(tmp_path / "s"))


def test_dancers_move_as_fast_as_people_do(motion: np.ndarray) -> None:
    speed = np.linalg.norm(np.diff(motion, axis=0), axis=-1) * 60
    jerkiness = np.linalg.norm(np.diff(motion, 2, axis=0), axis=-1)
    assert 0.3 < speed.mean() < 1.6  # real dancers: 0.7 to 0.9 m/s
    assert speed.max() < 8
    assert jerkiness.mean() < 0.004  # real ones: 2.5 to 3.4 mm a squared frame
    assert jerkiness.max() < 0.05


def test_dancers_stand_on_the_floor_with_one_foot_at_rest(motion: np.ndarray) -> None:
    ankles = motion[:, [chain[-1] for chain in LEGS]]
    assert motion[..., 1].min() > 0
    assert ankles[..., 1].min() > 0.03
    slide = np.linalg.norm(np.diff(ankles, axis=0), axis=-1).min(1)
    assert np.median(slide) < 0.002
    assert np.percentile(slide, 95) < 0.02


def test_hands_touch_the_floor_but_never_reach_through_it() -> None:
    lowest = []
    for seed in range(20):
        rng = np.random.default_rng([seed])
        lowest.append(dance(random_body(rng), STYLES["BR"], 240, rng)[:, [9, 10], 1].min())
    assert min(lowest) > 0.03
    assert np.median(lowest) < 0.4


def test_limbs_are_rigid_and_of_human_length(motion: np.ndarray) -> None:
    lengths = bone_lengths(motion)
    np.testing.assert_allclose(lengths[:, :8], lengths[:1, :8].repeat(len(lengths), 0), rtol=0.02)
    assert (lengths > 0.12).all()
    assert (lengths < 0.75).all()


def test_written_poses_are_centimetres_with_y_up(lane: Lane) -> None:
    path = sorted((lane.raw / "keypoints3d").glob("gPO*ch01.pkl"))[-1]
    poses, raw = read_poses(path)
    assert poses.shape == raw.shape == (60, 17, 3)
    assert 1.1 < np.median(poses[:, 0, 1]) < 1.8  # metres: how high the nose is
    assert np.median(poses[:, 15, 1]) < 0.2
