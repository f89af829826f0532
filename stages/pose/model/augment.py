"""Training inputs made otherwise: mirrors, missing detections, and the camera walked around the person."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.pose.body.frames import body_axes, rodrigues
from stages.pose.model.labels import Labels
from stages.pose.model.windows import REACH, Window, mirror_window


@dataclass(frozen=True)
class Augmentation:
    """Chances of a mirror and of missing detections, and the most degrees that the camera is walked around."""

    mirror: float
    no_detections: float
    turn_deg: float

    def __call__(self, window: Window, labels: Labels, rng: np.random.Generator) -> tuple[Window, Labels]:
        """Another look at the same frames, label included."""
        n = len(labels.pose)
        if self.turn_deg:
            window, labels = turn(window, labels, rng.uniform(-self.turn_deg, self.turn_deg, n))
        window = hide_detections(window, rng.uniform(size=n) < self.no_detections)
        mirrored = rng.uniform(size=n) < self.mirror
        return mirror_some(window, mirrored), labels.mirrored(mirrored)


def hide_detections(window: Window, where: np.ndarray) -> Window:
    """Put the estimate's own x and y in the place of the detections of the samples `where` (B,)."""
    return replace(window, seen=np.where(where[:, None, None, None], window.pose[..., :2], window.seen))


def mirror_some(window: Window, where: np.ndarray) -> Window:
    """Mirror the samples `where` (B,)."""
    other = mirror_window(window)
    pairs = ((window.pose, other.pose), (window.visibility, other.visibility), (window.seen, other.seen))
    return Window(*(np.where(where.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs))


def turn(window: Window, labels: Labels, degrees: np.ndarray) -> tuple[Window, Labels]:
    """Walk the camera around each person: pose, picture, label and view turn together.

    A camera that walks a sees the person turned by a about the picture's vertical. The picture is projected
    again from the turned label at the label's distance (weak perspective, as `windows` reads pictures), and the
    detections keep their own errors; so do the estimates, whose depth errors stay along the line of sight.

    Args:
        window: of one frame.
        degrees: (B,) positive: what was at the right of the picture comes nearer.
    """
    if window.pose.shape[1] != 1:
        raise ValueError(f"only windows of one frame can be turned, not of {window.pose.shape[1]}")
    angle = np.radians(degrees)
    rotation = rodrigues(np.outer(angle, [0.0, 1.0, 0.0]))
    truth = np.einsum("bij,bkj->bki", rotation, labels.pose).astype(np.float32)
    moved = (truth - labels.pose)[:, None]
    pose = np.clip(window.pose + moved, -REACH, REACH).astype(np.float32)
    seen = np.clip(window.seen + moved[..., :2], -REACH, REACH).astype(np.float32)
    axes = body_axes(labels.pose)
    # What the camera's direction, told in the picture's axes, would be to a person who had not turned.
    before = np.einsum("bji,bkj,bk->bi", rotation, axes, labels.view)
    view = np.einsum("bij,bj->bi", axes, before).astype(np.float32)
    return Window(pose, window.visibility, seen), replace(labels, pose=truth, view=view)
