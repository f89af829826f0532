"""Views that nobody filmed: other bodies before other cameras, for training alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.pose import pack
from stages.pose.body.frames import project, root_relative, view_direction, world_to_camera
from stages.pose.body.skeleton import BONES, HIPS, LIMBS, SHOULDERS, bone_lengths, mid, mirror_pose
from stages.pose.simulation.packed import Packed, PackedRole
from stages.pose.simulation.virtual import Virtual, other_body, virtual_camera, virtual_view
from tests.pose.conftest import Lane, small_params
from tests.pose.test_frames import camera_at, standing_person

seeds = st.integers(0, 10_000)
CAMERA = camera_at((0, 1, 5), (0, 1, 0))
UP = np.array([0.0, 1.0, 0.0])


@cache
def demo() -> Virtual:
    return small_params(pack.Params).virtual


def settings(**changes: Any) -> Virtual:
    return Virtual.model_validate(demo().model_dump() | changes)


def people(n: int = 5, seed: int = 0) -> np.ndarray:
    """(n, 17, 3) metres, world frame."""
    return standing_person() + np.random.default_rng(seed).normal(0, 0.05, (n, 17, 3))


@given(seeds)
def test_another_body_has_bones_of_other_lengths_in_the_same_directions(seed: int) -> None:
    pose = people(seed=seed)
    other = other_body(pose, 0.1, np.random.default_rng(seed))
    before, after = (bone_lengths(p, LIMBS) for p in (pose, other))
    np.testing.assert_allclose(after / before, (after / before)[:1].repeat(len(pose), 0), rtol=1e-9)
    assert np.abs(after / before - 1).max() > 0.005
    parents, children = zip(*LIMBS, strict=True)
    ours, theirs = (p[:, children] - p[:, parents] for p in (pose, other))
    cosine = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
    np.testing.assert_allclose(cosine, 1, atol=1e-9)
    np.testing.assert_allclose(mid(other, HIPS), mid(pose, HIPS), atol=1e-12)
    trunk = [(mid(p, SHOULDERS) - mid(p, HIPS)) for p in (pose, other)]
    np.testing.assert_allclose(np.cross(*trunk), 0, atol=1e-9)
    longer = np.linalg.norm(trunk[1], axis=-1) / np.linalg.norm(trunk[0], axis=-1)
    np.testing.assert_allclose(longer, longer[0])
    assert abs(longer[0] - 1) > 1e-6


def test_both_sides_of_another_body_are_alike() -> None:
    pose = standing_person()[None]
    np.testing.assert_allclose(mirror_pose(pose), pose)
    other = other_body(pose, 0.1, np.random.default_rng(3))
    np.testing.assert_allclose(mirror_pose(other), other, atol=1e-12)


def test_without_deviation_the_body_stays_as_it_is() -> None:
    pose = people()
    np.testing.assert_allclose(other_body(pose, 0.0, np.random.default_rng(0)), pose, atol=1e-12)
    np.testing.assert_allclose(
        bone_lengths(other_body(pose, 0.0, np.random.default_rng(0)), BONES), bone_lengths(pose, BONES)
    )


@given(seeds)
def test_a_virtual_camera_looks_down_at_the_person_from_its_distance(seed: int) -> None:
    how = settings(elevation_deg=(10, 30), roll_sd_deg=0.0, distance_m=(3.0, 4.0))
    around = np.array([0.4, 0.9, -0.3])
    camera = virtual_camera(how, around, CAMERA, np.random.default_rng(seed))
    away = camera.centre - around
    assert 3.0 - 1e-9 <= np.linalg.norm(away) <= 4.0 + 1e-9
    assert 10 <= np.degrees(np.arcsin(away[1] / np.linalg.norm(away))) <= 30
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    assert abs((camera.rotation @ UP)[0]) < 1e-9  # level: the vertical stays upright in the picture
    seen = world_to_camera(standing_person() + np.array([0.4, 0, -0.3]), camera)
    uv = project(seen, camera)
    assert (seen[:, 2] > 0).all()
    assert (uv > 0).all()
    assert (uv < camera.size).all()


def test_cameras_stand_on_every_side_and_are_held_askew_as_told() -> None:
    rng = np.random.default_rng(0)
    cameras = [virtual_camera(settings(roll_sd_deg=20.0), np.zeros(3), CAMERA, rng) for _ in range(400)]
    azimuth = np.array([np.arctan2(c.centre[0], c.centre[2]) for c in cameras])
    assert np.histogram(azimuth, 4, (-np.pi, np.pi))[0].min() > 70
    rolls = [np.degrees(np.arctan2((c.rotation @ UP)[0], -(c.rotation @ UP)[1])) for c in cameras]
    assert np.std(rolls) == pytest.approx(20, rel=0.15)


def test_a_view_without_a_label_anywhere_is_no_error() -> None:
    nothing = np.full((4, 17, 3), np.nan)
    world, camera = virtual_view(
        settings(), nothing, np.full((4, 3), np.nan), CAMERA, np.random.default_rng(0)
    )
    assert np.isnan(world).all()
    assert np.isfinite(camera.centre).all()


# ---------------------------------------------------------------- in the packed set


def virtual_rows(role: PackedRole) -> np.ndarray:
    rows = [
        np.arange(v.first_row, v.first_row + v.n_rows)
        for v in role.views[role.views["draw"] >= 2].itertuples()
    ]
    return np.concatenate(rows)


def test_only_training_views_are_looked_at_from_elsewhere(lane: Lane) -> None:
    packed = Packed.open(lane.packed)
    drawn = packed.views.groupby("role")["draw"].max()
    assert drawn["train"] == 2
    assert (drawn.drop("train") == 0).all()


def test_labels_of_a_virtual_view_fit_together(lane: Lane) -> None:
    role = Packed.open(lane.packed).role("train")
    rows = virtual_rows(role)
    pose = role["gt_pose"][rows].astype(np.float64)
    np.testing.assert_allclose(mid(pose, HIPS), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(role["view_dir"][rows], axis=-1), 1, atol=1e-5)
    low, high = demo().distance_m
    assert low - 1 < role["distance_m"][rows].min() < role["distance_m"][rows].max() < high + 1
    root = np.stack([0 * rows, 0 * rows, role["distance_m"][rows]], axis=-1)
    straight = view_direction(root_relative(pose), root)  # as if the hips stood in the picture's middle
    assert np.median((straight * role["view_dir"][rows]).sum(-1)) > 0.99


def test_virtual_views_show_other_bodies_and_other_tilts(lane: Lane) -> None:
    role = Packed.open(lane.packed).role("train")
    views = role.views.set_index(["clip", "cam", "draw"])
    filmed, virtual = (
        {
            key: role["gt_pose"][row["first_row"] : row["first_row"] + row["n_rows"]].astype(float)
            for key, row in views.xs(draw, level="draw").iterrows()
        }
        for draw in (0, 2)
    )
    ratios = np.array([bone_lengths(virtual[k]).mean(0) / bone_lengths(filmed[k]).mean(0) for k in filmed])
    assert 0.02 < ratios.std() < 0.2
    lean: dict[str, list[float]] = {name: [] for name in ("filmed", "virtual")}
    for name, poses in (("filmed", filmed), ("virtual", virtual)):
        for pose in poses.values():
            up = mid(pose, SHOULDERS).mean(0)
            lean[name].append(np.degrees(np.arctan2(-up[2], -up[1])))  # towards the camera
    assert np.mean(lean["virtual"]) > np.mean(lean["filmed"]) + 10
