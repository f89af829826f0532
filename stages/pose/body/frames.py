"""Every frame that poses live in, and the maps between them. Lengths in metres, angles in degrees.

world (AIST++)                camera (OpenCV)              body (as ISB: x forward, y up, z right)

      Y up                        ------> x right                Y up along the trunk
      |                          /|                              |
      |                         / |                              |
      +------ X                z  v                              +------ X forward (the chest's normal)
     /        dancer's left   depth, y down                     /
    Z         when facing     away from the camera             Z the subject's right
    towards camera c01

    origin on the floor         origin in the camera           only directions are given in it

Going from one to the next:  X_camera = R X_world + t.  A pose is *root-relative* once the middle of its hips
is subtracted; then only R acts.  A perfect estimator of a camera sees R X_world, never X_world: leaving the
ground truth in world axes costs 12 to 29 cm of depth in the cameras that do not stand in front.

image: u to the right, v down, pixels of the full frame; u = fx x'/z + cx after the lens distortion of x'.

view direction: unit vector from the trunk's centre to the camera, in the body frame (x, y, z) =
(forward, up, right).  Azimuth = atan2(right, forward): 0 camera in front of the chest, 90 at the subject's
right, 180 behind, 270 left.  Elevation = asin(up).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.pose.body.skeleton import HIPS, NOSE, SHOULDERS, mid, torso_length


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    Attributes:
        name: c01 ... c09.
        size: (width, height) of its pictures in px.
        matrix: (3, 3) intrinsics K in px.
        distortion: (5,) k1, k2, p1, p2, k3 of the Brown model (OpenCV's order).
        rotation: (3, 3) R, world to camera.
        translation: (3,) t in metres.
    """

    name: str
    size: tuple[int, int]
    matrix: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(3,) where the camera stands in the world, metres."""
        return -self.rotation.T @ self.translation


def rodrigues(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3): axis times angle in radians."""
    vectors = np.asarray(vectors, np.float64)
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    # sin(a)/a and (1 - cos(a))/a^2, written so that they hold at a = 0
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) of one matrix (3, 3): the inverse of `rodrigues`."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec()


def world_to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """World points (..., 3) in the camera's frame: X_camera = R X_world + t, metres."""
    return points @ camera.rotation.T + camera.translation


def camera_to_world(points: np.ndarray, camera: Camera) -> np.ndarray:
    """The inverse of `world_to_camera`."""
    return (points - camera.translation) @ camera.rotation


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels (..., 2) of camera-frame points (..., 3); NaN for points at or behind the camera."""
    depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
    rays = _distort(points[..., :2] / depth, camera.distortion)
    return rays @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]


def unproject(uv: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Camera-frame points (..., 3) at the depths (...) that project to the pixels (..., 2)."""
    distorted = (uv - camera.matrix[:2, 2]) @ np.linalg.inv(camera.matrix[:2, :2]).T
    rays = distorted
    for _ in range(30):  # fixed point: converges fast for the mild lenses of a studio
        rays = rays - (_distort(rays, camera.distortion) - distorted)
    return np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1) * np.asarray(depth)[..., None]


def _distort(rays: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Brown's lens model on normalised rays (..., 2)."""
    k1, k2, p1, p2, k3 = distortion
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def root_relative(pose: np.ndarray) -> np.ndarray:
    """Poses (..., 17, D) minus the middle of their hips."""
    return pose - mid(pose, HIPS)[..., None, :]


def body_axes(pose: np.ndarray) -> np.ndarray:
    """Body frames (..., 3, 3) of poses (..., 17, 3) in a right-handed frame: rows forward, up, right.

    Up runs from the hips to the shoulders; right is the mean of shoulder and hip line made orthogonal to it.
    """
    up = _unit(mid(pose, SHOULDERS) - mid(pose, HIPS))
    across = (pose[..., SHOULDERS[1], :] - pose[..., SHOULDERS[0], :]) + (
        pose[..., HIPS[1], :] - pose[..., HIPS[0], :]
    )
    forward = _unit(np.cross(up, across))
    return np.stack([forward, up, np.cross(forward, up)], axis=-2)


def view_direction(pose: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) from the trunk's centre to the camera, in the body frame (forward, up, right).

    Args:
        pose: (..., 17, 3) root-relative poses in the camera's frame, metres.
        root: (..., 3) middle of the hips in the camera's frame, metres.
    """
    trunk = root + (mid(pose, SHOULDERS) + mid(pose, HIPS)) / 2
    return np.einsum("...ij,...j->...i", body_axes(pose), _unit(-trunk))


def azimuth_elevation(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth in [0, 360) and elevation in [-90, 90] degrees of unit view directions (..., 3)."""
    forward, up, right = np.moveaxis(direction, -1, 0)
    return np.degrees(np.arctan2(right, forward)) % 360, np.degrees(np.arcsin(np.clip(up, -1, 1)))


def is_inverted(pose_world: np.ndarray) -> np.ndarray:
    """Whether the nose is less than half a torso above the hips (...): floor work, deep bends."""
    rise = pose_world[..., NOSE, 1] - mid(pose_world, HIPS)[..., 1]
    return rise < 0.5 * torso_length(pose_world)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
