"""Parquet tables with a schema and units, written to the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import StageError


def column(name: str, kind: pa.DataType, unit: str = "") -> pa.Field:
    """A column that is never null; `unit` ("raw px", "mm", "degrees", ...) goes into its metadata."""
    return pa.field(name, kind, nullable=False, metadata={"unit": unit} if unit else None)


def points_column(name: str, n_points: int, unit: str) -> pa.Field:
    """Coordinates x0, y0, x1, y1, ... as a fixed-size list of 2 * n_points float32."""
    return column(name, pa.list_(pa.float32(), 2 * n_points), unit)


def write_table(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write `frame` as Parquet; its columns must be exactly those of `schema`, which gives order and types.

    A column of points may hold arrays (2K,) or (K, 2). The file appears only when it is whole.
    """
    if set(frame.columns) != set(schema.names):
        extra, missing = set(frame.columns) - set(schema.names), set(schema.names) - set(frame.columns)
        raise StageError(
            f"{path.name}: unexpected columns {sorted(extra)}, missing columns {sorted(missing)}"
        )
    arrays = [_array(frame[f.name], f) for f in schema]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), partial, compression="zstd")
    partial.replace(path)


def _array(values: pd.Series, spec: pa.Field) -> pa.Array:
    if not pa.types.is_fixed_size_list(spec.type):
        return pa.array(values.tolist(), type=spec.type)
    flat = (
        np.concatenate([np.asarray(v, np.float32).reshape(-1) for v in values])
        if len(values)
        else np.empty(0)
    )
    if flat.size != len(values) * spec.type.list_size:
        raise StageError(f"column {spec.name}: every row needs {spec.type.list_size} numbers")
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=spec.type.value_type), spec.type.list_size)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of `write_table`. Columns of points come back as object columns of float32 arrays."""
    if not path.is_file():
        raise StageError(f"{path} does not exist: run `dvc repro` for the stage that makes it")
    return pq.read_table(path).to_pandas()


def stack_points(points: pd.Series) -> np.ndarray:
    """A column of points as one array (N, K, 2) float32."""
    if len(points) == 0:
        return np.empty((0, 0, 2), np.float32)
    return np.stack([np.asarray(p, np.float32) for p in points]).reshape(len(points), -1, 2)
