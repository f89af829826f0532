"""What a model may see of a frame: a window of simulated estimates around it, brought into one unit.

Nothing here reads a label. Pixels become metres by the scale that fits them best to the estimated pose itself
(weak perspective), so that no calibration is needed and a cropped or resized picture changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.pose.body.skeleton import HIPS, SWAP, mid, mirror_pose
from stages.pose.simulation.packed import PackedRole

REACH = 1.3
"""Metres: no joint is farther from the hips. Estimates beyond it are errors and are clipped."""


@dataclass(frozen=True)
class Window:
    """Inputs of B frames with K neighbours in time each; float32.

    Attributes:
        pose: (B, K, 17, 3) estimated poses, metres, camera frame, root-relative.
        visibility: (B, K, 17) in [0, 1].
        seen: (B, K, 17, 2) detected 2D positions in metres, relative to the detected hips; equal to x and y
            of the pose where there are no detections.
    """

    pose: np.ndarray
    visibility: np.ndarray
    seen: np.ndarray

    def __post_init__(self) -> None:
        b, k = self.pose.shape[:2]
        if (
            self.pose.shape[2:] != (17, 3)
            or self.visibility.shape != (b, k, 17)
            or self.seen.shape != (b, k, 17, 2)
        ):
            raise ValueError(
                f"shapes {self.pose.shape}, {self.visibility.shape} and {self.seen.shape} do not match"
            )


def make_window(pose: np.ndarray, visibility: np.ndarray, uv_px: np.ndarray | None) -> Window:
    """Window of poses (B, K, 17, 3) m, visibility (B, K, 17) and detections (B, K, 17, 2) px, or None."""
    pose = np.clip(pose, -REACH, REACH).astype(np.float32)
    visibility = np.asarray(visibility, np.float32)
    seen = pose[..., :2].copy() if uv_px is None else pixels_to_metres(pose, visibility, uv_px)
    return Window(pose, visibility, np.clip(seen, -REACH, REACH).astype(np.float32))


def pixels_to_metres(pose: np.ndarray, visibility: np.ndarray, uv_px: np.ndarray) -> np.ndarray:
    """Detections (..., 17, 2) relative to the middle of the hips, scaled to fit the pose's x and y.

    Least squares over the joints, weighted by visibility; a scale that comes out below zero is taken as zero.
    """
    centred = uv_px - mid(uv_px, HIPS)[..., None, :]
    weight = visibility[..., None]
    fit = (weight * centred * pose[..., :2]).sum((-1, -2))
    scale = np.maximum(fit, 0) / np.maximum((weight * centred**2).sum((-1, -2)), 1e-9)
    return scale[..., None, None] * centred


def read_window(role: PackedRole, rows: np.ndarray, offsets: np.ndarray) -> Window:
    """Windows of packed rows (B,): their neighbours at `offsets` (K,) frame numbers."""
    near = role.neighbours(rows, offsets)
    flat, where = np.unique(near, return_inverse=True)
    where = where.reshape(near.shape)
    pose, visibility, uv = (
        np.asarray(role[name][flat])[where] for name in ("sim_pose", "sim_visibility", "sim_uv_px")
    )
    return make_window(pose, visibility, uv)


def mirror_window(window: Window) -> Window:
    """The same people seen in a mirror: sides change places everywhere. An involution."""
    flip = np.array([-1.0, 1.0], np.float32)
    return Window(mirror_pose(window.pose), window.visibility[..., SWAP], window.seen[..., SWAP, :] * flip)


def frame_offsets(seconds: tuple[float, ...], fps: float, frame_step: int) -> np.ndarray:
    """Offsets (K,) in frame numbers of times relative to a frame; 0 has to be among them.

    Args:
        seconds: ascending.
        fps: frames a second that there are; `frame_step`: difference of their numbers.
    """
    offsets = np.array([round(s * fps) * frame_step for s in seconds])
    if 0 not in offsets:
        raise ValueError(f"the window {seconds} s does not hold the frame itself (0)")
    return offsets
