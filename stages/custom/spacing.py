"""Millimetres per pixel of each film, beside a film store: spacing.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables

SPACING_FILE = "spacing.parquet"
SPACING_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("spacing_x_mm", pa.float64(), "mm per raw px"),
        tables.column("spacing_y_mm", pa.float64(), "mm per raw px"),
    ]
)


def write_spacing(folder: Path, ids: np.ndarray, spacing_mm: Mapping[str, tuple[float, float]]) -> None:
    """Write the spacing of the films `ids` of the store `folder`; NaN where it is unknown."""
    values = np.array([spacing_mm[i] for i in ids], float).reshape(len(ids), 2)
    table = pd.DataFrame({"id": ids, "spacing_x_mm": values[:, 0], "spacing_y_mm": values[:, 1]})
    tables.write_table(folder / SPACING_FILE, table, SPACING_SCHEMA)


def read_spacing(folder: Path, ids: np.ndarray) -> np.ndarray:
    """(N, 2) float64 mm per raw px along x and y of the films `ids`, in their order; NaN where it is unknown."""
    table = tables.read_table(folder / SPACING_FILE).set_index("id")
    return table.loc[list(ids), ["spacing_x_mm", "spacing_y_mm"]].to_numpy(float)
