"""The tables of an evaluation and what their columns mean. Every figure of simulated estimates says `sim_`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.pose.body.skeleton import N_JOINTS

VIEW_ANGLES = {
    "sim_azimuth_median_deg": "degrees, median over the frames of the view",
    "sim_front_back_flips_percent": "percent of frames whose azimuth is more than 90 degrees off",
    "sim_elevation_mae_deg": "degrees, mean over the frames of the view",
}
MEASURES = {
    "sim_mean_abs_dz_cm": "cm, camera frame, root-relative, against the label",
    "sim_mpjpe_mm": "mm, root-relative",
    "sim_pa_mpjpe_mm": "mm, after the best similarity of each frame",
    "sim_limb_angle_deg": "degrees between true and given directions of the limbs",
    "sim_joint_angle_deg": "degrees, mean over the observable joint angles",
    "sim_acceleration_error_mm": "mm per squared frame interval",
    "sim_bone_variation_percent": "percent, coefficient of variation in the view",
    **VIEW_ANGLES,
    "sim_expected_abs_dz_cm": "cm, what the method itself expects; NaN where it does not say",
    "sim_inverted_abs_dz_cm": "cm, frames with the head low alone; NaN where there are none",
}
FACTS = ("id", "clip", "sequence", "cam", "genre", "group", "role")
"""What a row says of its view, from views.parquet."""

PARTS = {
    "azimuth": ("0", "45", "90", "135", "180", "225", "270", "315"),
    "visibility": ("low", "middle", "high"),
    "posture": ("upright", "inverted"),
}
"""How the frames and joints of a view are told apart: by true azimuth (the middle of each bin, degrees: 0 seen
from the front, 90 from the subject's right), by the third of the role's visibilities, by `Flag.INVERTED`."""

SEQUENCE_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in (*FACTS, "method")),
        tables.column("n_frames", pa.int32()),
        *(tables.column(name, pa.float32(), unit) for name, unit in MEASURES.items()),
    ]
)
JOINT_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("role", "method", "cam", "joint")),
        tables.column("n_frames", pa.int64()),
        tables.column("sim_mean_abs_dz_cm", pa.float32(), "cm"),
        tables.column("sim_mpjpe_mm", pa.float32(), "mm"),
    ]
)
ANGLE_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "group", "role", "method", "angle")),
        tables.column(
            "sim_joint_angle_deg", pa.float32(), "degrees, frames weighted by the label's confidence"
        ),
    ]
)
PART_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "group", "role", "method", "part", "bin")),
        tables.column("n_samples", pa.int32(), "joints of frames"),
        tables.column("sim_mean_abs_dz_cm", pa.float32(), "cm"),
        tables.column("sim_mpjpe_mm", pa.float32(), "mm"),
    ]
)
CONSTANT_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("id", "cam", "group", "role", "constant")),
        *(tables.column(name, pa.float32(), unit) for name, unit in VIEW_ANGLES.items()),
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        *(tables.column(name, pa.string()) for name in ("case", "id", "sequence", "cam")),
        tables.column("frame", pa.int32()),
        *(
            tables.column(name, pa.list_(pa.float32(), 3 * N_JOINTS), "m, camera frame, root-relative")
            for name in ("label", "estimate", "refined")
        ),
    ]
)


@dataclass(frozen=True)
class Judged:
    """Rows of per_sequence, per_joint, per_angle and per_part.parquet."""

    views: pd.DataFrame
    joints: pd.DataFrame
    angles: pd.DataFrame
    parts: pd.DataFrame

    @classmethod
    def join(cls, found: Iterable[Judged]) -> Judged:
        """The rows of several roles."""
        columns = zip(*((one.views, one.joints, one.angles, one.parts) for one in found), strict=True)
        return cls(*(pd.concat(frames, ignore_index=True) for frames in columns))

    def write(self, folder: Path) -> None:
        """Write the four tables in a fixed order of rows."""
        for name, frame, order, schema in (
            ("per_sequence", self.views, ["method", "role", "id"], SEQUENCE_SCHEMA),
            ("per_joint", self.joints, ["role", "method", "cam"], JOINT_SCHEMA),
            ("per_angle", self.angles, ["method", "role", "id"], ANGLE_SCHEMA),
            ("per_part", self.parts, ["method", "role", "id"], PART_SCHEMA),
        ):
            ordered = frame.sort_values(order, kind="stable")
            tables.write_table(folder / f"{name}.parquet", ordered, schema)
