"""What is true of packed frames: what answers are held against, and no network is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.pose.body.skeleton import mirror_pose
from stages.pose.simulation.packed import PackedRole


@dataclass(frozen=True)
class Labels:
    """What is true of B frames; float32.

    Attributes:
        pose: (B, 17, 3) metres, camera frame, root-relative.
        view: (B, 3) unit direction to the camera, body frame (forward, up, right).
        distance_m: (B,) of the camera.
        person: (B,) int64, tells people apart.
    """

    pose: np.ndarray
    view: np.ndarray
    distance_m: np.ndarray
    person: np.ndarray

    @classmethod
    def read(cls, role: PackedRole, rows: np.ndarray) -> Labels:
        pose, view, distance = (
            np.asarray(role[name][rows]) for name in ("gt_pose", "view_dir", "distance_m")
        )
        return cls(pose, view, distance, np.asarray(role["dancer"][rows], np.int64))

    def mirrored(self, where: np.ndarray) -> Labels:
        """The same with the frames `where` (B,) seen in a mirror: the camera is then at their other side."""
        flip = np.array([1.0, 1.0, -1.0], np.float32)
        return Labels(
            np.where(where[:, None, None], mirror_pose(self.pose), self.pose),
            np.where(where[:, None], self.view * flip, self.view),
            self.distance_m,
            self.person,
        )
