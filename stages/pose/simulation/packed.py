"""The packed set: one memory-mapped .npy a column and role, ready to be gathered in random batches.

    <role>/sim_pose.npy        (n, 17, 3) float32 m, camera frame, root-relative: the simulated estimate
    <role>/sim_visibility.npy  (n, 17) float32
    <role>/sim_uv_px.npy       (n, 17, 2) float32 px: simulated 2D detections
    <role>/gt_pose.npy         (n, 17, 3) float32 m: the label
    <role>/view_dir.npy, distance_m.npy, flags.npy, seq.npy, cam.npy, frame.npy, dancer.npy
    views.parquet              one row a view (clip, camera, draw of the simulation): its rows, role, group
    clips.parquet              one row a clip: its frames and role
    manifest.json              name of the data set, frame rate, simulation, how roles were given

Rows of a view lie together in the order of their frames; a frame without a usable label is left out.
A model may read the columns in INPUTS and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.errors import StageError
from stages.pose.body.skeleton import N_JOINTS

COLUMNS: dict[str, tuple[tuple[int, ...], type]] = {
    "sim_pose": ((N_JOINTS, 3), np.float32),
    "sim_visibility": ((N_JOINTS,), np.float32),
    "sim_uv_px": ((N_JOINTS, 2), np.float32),
    "gt_pose": ((N_JOINTS, 3), np.float32),
    "view_dir": ((3,), np.float32),
    "distance_m": ((), np.float32),
    "flags": ((), np.uint8),
    "seq": ((), np.int16),
    "cam": ((), np.int8),
    "frame": ((), np.int32),
    "dancer": ((), np.int16),
}
INPUTS = ("sim_pose", "sim_visibility", "sim_uv_px")

VIEW_SCHEMA = pa.schema(
    [
        *(
            tables.column(name, pa.string())
            for name in ("id", "clip", "sequence", "cam", "genre", "group", "role")
        ),
        tables.column("dancer", pa.int16()),
        tables.column("draw", pa.int16()),
        tables.column("first_row", pa.int64()),
        tables.column("n_rows", pa.int64()),
    ]
)

_SPREAD = 1 << 32
"""Wider than any frame number, so that (view, frame) sorts as one integer."""


@dataclass(frozen=True)
class PackedRole:
    """The rows of one role.

    Attributes:
        columns: name -> memory-mapped array, see the module's docstring.
        views: rows of views.parquet of this role, in the order of their rows.
    """

    role: str
    columns: dict[str, np.ndarray]
    views: pd.DataFrame

    def __len__(self) -> int:
        return len(self.columns["frame"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @cached_property
    def _view_of_row(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.views)), self.views["n_rows"].to_numpy())

    @cached_property
    def _keys(self) -> np.ndarray:
        return self._view_of_row * _SPREAD + self.columns["frame"]

    def neighbours(self, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """(B, K) rows that lie `offsets` (K,) frames away from `rows` (B,) in the same view.

        Beyond the ends of a view and where frames were left out, the next earlier frame of the view stands
        in, or its first one.
        """
        view = self._view_of_row[rows][:, None]
        wanted = view * _SPREAD + np.maximum(self.columns["frame"][rows][:, None] + offsets, 0)
        found = np.searchsorted(self._keys, wanted, side="right") - 1
        first = self.views["first_row"].to_numpy()[view]
        return np.clip(found, first, first + self.views["n_rows"].to_numpy()[view] - 1)


@dataclass(frozen=True)
class Packed:
    """An opened packed set."""

    folder: Path
    manifest: dict[str, Any]
    views: pd.DataFrame

    @classmethod
    def open(cls, folder: Path) -> Packed:
        path = folder / "manifest.json"
        if not path.is_file():
            raise StageError(f"{folder} is no packed set (no manifest.json): run `dvc repro pose-pack`")
        return cls(
            folder, json.loads(path.read_text(encoding="utf-8")), tables.read_table(folder / "views.parquet")
        )

    @property
    def fps(self) -> float:
        return float(self.manifest["fps"])

    @property
    def frame_step(self) -> int:
        """Difference of the frame numbers of two rows in a row."""
        return int(self.manifest["frame_step"])

    def role(self, role: str) -> PackedRole:
        """Open the columns of a role; a role without rows is an error."""
        views = self.views[self.views["role"] == role].sort_values("first_row").reset_index(drop=True)
        if views.empty:
            raise StageError(
                f"{self.folder}: there are no rows of role {role}; look at pose.pack.roles in params.yaml"
            )
        columns = {name: np.load(self.folder / role / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        return PackedRole(role, columns, views)

    def roles(self) -> list[str]:
        """The roles that have rows."""
        return sorted(set(self.views["role"]))
