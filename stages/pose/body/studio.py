"""Cameras as AIST's setting*.json describe them, in centimetres: reading an entry, and nine made-up ones."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stages.pose.body.frames import Camera, rodrigues, rotation_vector

CM = 0.01


def camera_of(entry: dict[str, Any]) -> Camera:
    """The camera of one entry of a setting*.json; ValueError and KeyError say what is wrong with it."""

    def numbers(key: str, *shape: int) -> np.ndarray:
        array = np.asarray(entry[key], np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(
                f"camera {entry.get('name')}: {key} must be {shape} finite numbers, not {array.shape}"
            )
        return array

    if not re.fullmatch(r"c\d{1,2}", str(entry["name"])):
        raise ValueError(f"cameras are called c01, c02, ..., not {entry['name']!r}")
    width, height = (int(value) for value in numbers("size", 2))
    return Camera(
        name=str(entry["name"]),
        size=(width, height),
        matrix=numbers("matrix", 3, 3),
        distortion=numbers("distortions", 5),
        rotation=rodrigues(numbers("rotation", 3)),
        translation=numbers("translation", 3) * CM,
    )


def studio_rig(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Entries of a setting*.json: c01 in front, then every 45 degrees round the dancer's right, c09 in front
    and low; 4.5 to 5.3 m away, focal lengths that keep the dancer about 430 px tall, only k1."""
    cameras = []
    for k in range(9):
        azimuth = np.radians(-45.0 * (k % 8) + rng.normal(0, 1.5))
        distance = rng.uniform(450, 530)
        height = 45.0 if k == 8 else rng.uniform(110, 125)
        centre = np.array([distance * np.sin(azimuth), height, distance * np.cos(azimuth)])
        target = np.array([0.0, 84.0, 0.0]) + rng.normal(0, 4, 3)
        rotation = look_at(centre, target)
        focal = distance * rng.uniform(2.85, 3.15)
        cameras.append(
            {
                "name": f"c{k + 1:02d}",
                "size": [1920, 1080],
                "matrix": [[focal, 0.0, 960.0], [0.0, focal, 540.0], [0.0, 0.0, 1.0]],
                "distortions": [float(rng.uniform(-0.22, 0.09)), 0.0, 0.0, 0.0, 0.0],
                "rotation": rotation_vector(rotation).tolist(),
                "translation": (-rotation @ centre).tolist(),
            }
        )
    return cameras


def look_at(centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """R (world to camera, y down) of an upright camera at `centre` that looks at `target`."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])
