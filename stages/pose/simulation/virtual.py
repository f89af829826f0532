"""Other looks at known poses: a body of other proportions, before a camera that stands elsewhere.

Studios place their cameras level with the dancers; telephones and surveillance cameras look down on people, from
any side and held askew. A refiner that has only met level cameras takes every lean of the picture for an error of
the estimator. Views made here are only ever trained on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.pose.body.frames import Camera, camera_to_world, rodrigues
from stages.pose.body.skeleton import ARMS, HEAD, HIPS, LEGS, SHOULDERS, mid
from stages.pose.body.studio import look_at


class Virtual(BaseModel):
    """How virtual views differ from the filmed ones.

    Attributes:
        draws: how often each training view is looked at in this way.
        elevation_deg: range of the angles by which cameras look down.
        roll_sd_deg: deviation of their roll about the line of sight.
        distance_m: range of their distances.
        heights: range of the person's height over the picture's; decides the focal length.
        bones_sd: deviation of the lengths of limbs, trunk, shoulders, hips and head, each as a share of itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    draws: int = Field(ge=0)
    elevation_deg: tuple[float, float]
    roll_sd_deg: float = Field(ge=0)
    distance_m: tuple[float, float]
    heights: tuple[float, float]
    bones_sd: float = Field(ge=0, lt=0.3)


def virtual_view(
    settings: Virtual, pose: np.ndarray, root: np.ndarray, camera: Camera, rng: np.random.Generator
) -> tuple[np.ndarray, Camera]:
    """Another look at one view.

    Args:
        pose: (T, 17, 3) metres, in the frame of `camera`, root-relative; NaN where there is no label.
        root: (T, 3) middle of the hips in that frame, metres.
        camera: world to camera, the world's Y upwards.
    Returns:
        The poses (T, 17, 3) in metres, world frame, with bones of other lengths, and the virtual camera.
    """
    world = camera_to_world(pose + root[:, None], camera)
    centre = np.nanmean(mid(world, HIPS), axis=0) if np.isfinite(world).any() else np.zeros(3)
    return other_body(world, settings.bones_sd, rng), virtual_camera(settings, centre, camera, rng)


def virtual_camera(settings: Virtual, around: np.ndarray, like: Camera, rng: np.random.Generator) -> Camera:
    """A camera at any side of a place `around` (3,), world frame, metres, with the pictures' size of `like`."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*settings.elevation_deg))
    distance = rng.uniform(*settings.distance_m)
    level = np.cos(elevation) * np.array([np.sin(azimuth), 0.0, np.cos(azimuth)])
    position = around + distance * (level + np.array([0.0, np.sin(elevation), 0.0]))
    roll = rodrigues(np.array([0.0, 0.0, np.radians(rng.normal(0, settings.roll_sd_deg))]))
    rotation = roll @ look_at(position, around + rng.normal(0, 0.05, 3))
    focal = rng.uniform(*settings.heights) * like.size[1] * distance / _HEIGHT
    matrix = np.array([[focal, 0, like.size[0] / 2], [0, focal, like.size[1] / 2], [0, 0, 1]])
    return replace(
        like, matrix=matrix, distortion=np.zeros(5), rotation=rotation, translation=-rotation @ position
    )


_HEIGHT = 1.7
"""Metres; of a person, near enough to choose a focal length by."""


def other_body(pose: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Poses (T, 17, 3) with the same directions of bones, whose lengths differ by shares of deviation `sd`.

    Both sides change alike, and every frame does; the middle of the hips stays where it is.
    """
    size = rng.normal(1, sd)
    hips, shoulders, trunk, head = size * rng.normal(1, sd, 4)
    arms, legs = size * rng.normal(1, sd, (2, 2))
    root, neck = mid(pose, HIPS), mid(pose, SHOULDERS)
    moved_neck = root + trunk * (neck - root)
    moved = np.empty_like(pose)
    for joints, old, new, factor in (
        (HIPS, root, root, hips),
        (SHOULDERS, neck, moved_neck, shoulders),
        (HEAD, neck, moved_neck, head),
    ):
        for joint in joints:
            moved[..., joint, :] = new + factor * (pose[..., joint, :] - old)
    for chains, factors in ((ARMS, arms), (LEGS, legs)):
        for near, middle, far in chains:
            for start, end, factor in ((near, middle, factors[0]), (middle, far, factors[1])):
                bone = pose[..., end, :] - pose[..., start, :]
                moved[..., end, :] = moved[..., start, :] + factor * bone
    return moved
