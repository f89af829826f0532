"""Tables of the transfer, and how its figures are called."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.pose.body.frames import root_relative
from stages.pose.body.skeleton import N_JOINTS
from stages.pose.estimation.views import JOINT_MEASURES, MEASURES, View

_VIEW = [tables.column("trial", pa.string()), tables.column("cam", pa.string())]
_POSE = pa.list_(pa.float32(), 3 * N_JOINTS)
TRANSFER_SCHEMA = pa.schema(
    [
        *_VIEW,
        tables.column("method", pa.string()),
        tables.column("model_dataset", pa.string()),
        tables.column("n_frames", pa.int32(), "frames in which every compared joint is known"),
        tables.column("n_joints", pa.int32(), "compared"),
        *(tables.column(name, pa.float32(), unit) for name, unit in MEASURES.items()),
    ]
)
JOINT_SCHEMA = pa.schema(
    [
        *_VIEW,
        tables.column("method", pa.string()),
        tables.column("joint", pa.string()),
        *(tables.column(name, pa.float32(), unit) for name, unit in JOINT_MEASURES.items()),
    ]
)
TRUTH_SCHEMA = pa.schema(
    [
        *_VIEW,
        tables.column("source", pa.string()),
        tables.column("lag_frames", pa.int32(), "behind the trial's first camera"),
        tables.column("reprojection_px", pa.float32(), "px, median"),
        tables.column("markers_mm", pa.float32(), "mm, median over joints; NaN without markers"),
        tables.column("markers_lag_frames", pa.int32(), "with which the markers fit best"),
        tables.column("n_frames", pa.int32()),
        tables.column("n_without_person", pa.int32()),
        tables.column("n_repeated", pa.int32(), "rows that show a frame again"),
    ]
)
ESTIMATE_SCHEMA = pa.schema(
    [
        *_VIEW,
        tables.column("frame", pa.int32()),
        tables.column("mp_xyz", _POSE, "m, camera axes, root-relative; NaN without a person"),
        tables.column("visibility", pa.list_(pa.float32(), N_JOINTS)),
        tables.column("uv_px", pa.list_(pa.float32(), 2 * N_JOINTS), "px"),
        tables.column("triangulated_xyz", _POSE, "m, camera axes, root-relative; NaN where unknown"),
    ]
)
QUARANTINE = ("trial", "cam", "reason", "detail")


def write(
    output: Path,
    views: list[View],
    measured: pd.DataFrame,
    joints: pd.DataFrame,
    refused: list[dict[str, str]],
) -> None:
    tables.write_table(output / "transfer.parquet", measured, TRANSFER_SCHEMA)
    measured.to_csv(output / "transfer.csv", index=False, float_format="%.6g", lineterminator="\n")
    tables.write_table(output / "joints.parquet", joints, JOINT_SCHEMA)
    truth = [_truth_row(view) for view in views]
    tables.write_table(
        output / "truth.parquet", pd.DataFrame(truth, columns=TRUTH_SCHEMA.names), TRUTH_SCHEMA
    )
    frames = [row for view in views for row in _frame_rows(view)]
    tables.write_table(
        output / "estimates.parquet", pd.DataFrame(frames, columns=ESTIMATE_SCHEMA.names), ESTIMATE_SCHEMA
    )
    with (output / "quarantine.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, QUARANTINE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(refused)


def _truth_row(view: View) -> dict[str, Any]:
    markers = view.truth.markers_mm
    return {
        "trial": view.trial,
        "cam": view.camera.name,
        "source": view.truth.source,
        "lag_frames": view.truth.lags[view.camera.name],
        "reprojection_px": view.truth.reprojection_px[view.camera.name],
        "markers_mm": np.nanmedian(markers) if np.isfinite(markers).any() else np.nan,
        "markers_lag_frames": view.truth.markers_lag,
        **{name: int(view.counts[name]) for name in ("n_frames", "n_without_person", "n_repeated")},
    }


def _frame_rows(view: View) -> list[dict[str, Any]]:
    estimates = view.estimates
    pose = root_relative(estimates.pose)
    columns = (pose, estimates.visibility, estimates.uv_px, view.triangulated)
    return [
        {
            "trial": view.trial,
            "cam": view.camera.name,
            **dict(zip(ESTIMATE_SCHEMA.names[2:], row, strict=True)),
        }
        for row in zip(range(len(pose)), *columns, strict=True)
    ]
