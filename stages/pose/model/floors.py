"""What can be had without a network.

identity    the estimate as it is
flat        every joint at the depth of the hips
bias        the estimate minus each joint's mean error in training
ridge       a linear map from a frame's 3D estimate, visibility and 2D detections to its errors
ridge_time  the same from the whole window in time that the refiner sees: the one that is hard to beat
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.errors import StageError
from stages.pose.model import linear
from stages.pose.model.windows import read_window
from stages.pose.simulation.packed import PackedRole

FLOORS = ("identity", "flat", "bias", "ridge", "ridge_time")
_CHUNK = 4096
_FILE = "floors.npz"


@dataclass(frozen=True)
class Floors:
    """The fitted floors: bias (17, 3) in metres, and offsets, weights and constant of the ridges."""

    fitted: Mapping[str, np.ndarray]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / _FILE, **self.fitted)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> Floors:
        path = folder / _FILE
        if not path.is_file():
            raise StageError(f"{path} does not exist: run `dvc repro pose-floors`")
        with np.load(path) as fitted:
            return cls(dict(fitted))

    def predict(self, name: str, role: PackedRole, rows: np.ndarray) -> np.ndarray:
        """Poses (B, 17, 3) of the floor `name` for packed rows (B,)."""
        pose = np.array(role["sim_pose"][rows])
        if name == "flat":
            pose[..., 2] = 0
        elif name == "bias":
            pose -= self.fitted["bias"]
        elif name != "identity":
            return self._ridge(name, role, rows)
        return pose

    def _ridge(self, name: str, role: PackedRole, rows: np.ndarray) -> np.ndarray:
        offsets, weights, constant = (
            self.fitted[f"{name}_{part}"] for part in ("offsets", "weights", "constant")
        )
        centre = list(offsets).index(0)
        chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        windows = (read_window(role, chunk, offsets) for chunk in chunks)
        return np.concatenate([linear.correct(window, centre, weights, constant) for window in windows])
