"""Angles before and after a correction as a table: one row a frame and angle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data.tables import column, write_table
from stages.pose.kinematics.angles import Angles

SCHEMA = pa.schema(
    [
        column("frame", pa.int32()),
        column("t_s", pa.float64(), "s"),
        column("angle", pa.string()),
        column("before_deg", pa.float32(), "degrees; NaN where the points show nothing of it"),
        column("after_deg", pa.float32(), "degrees; NaN where the points show nothing of it"),
        column("confidence", pa.float32(), "0 to 1, of the angle afterwards"),
        column("observable", pa.bool_(), "whether this set of points can tell this angle at all"),
    ]
)


def write_angles(path: Path, before: Angles, after: Angles, fps: float) -> None:
    """Write `SCHEMA`, frame by frame, angles in the order of ANGLE_NAMES."""
    n, n_angles = after.values.shape
    frame = np.repeat(np.arange(n), n_angles)
    write_table(
        path,
        pd.DataFrame(
            {
                "frame": frame,
                "t_s": frame / fps,
                "angle": np.tile(np.array(after.names), n),
                "before_deg": before.values.ravel(),
                "after_deg": after.values.ravel(),
                "confidence": after.confidence.ravel(),
                "observable": np.tile(after.observable, n),
            }
        ),
        SCHEMA,
    )
