"""The points that single readers set on the films of a clinic, beside its film store: readers.parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.ceph.schema import CEPH
from stages.core.data import tables
from stages.core.errors import StageError

READERS_FILE = "readers.parquet"
READERS_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("reader", pa.string()),
        tables.points_column("landmarks", CEPH.n_points, "raw px"),
    ]
)


def write_readers(folder: Path, readers: pd.DataFrame) -> None:
    """Write columns id, reader, landmarks ((19, 2) raw px, NaN for a missing point)."""
    ordered = readers.sort_values(["id", "reader"], ignore_index=True)
    tables.write_table(folder / READERS_FILE, ordered, READERS_SCHEMA)


def read_readers(folder: Path) -> pd.DataFrame:
    """Columns id, reader ("a", "b", ... as their folders reader_a, reader_b), landmarks ((38,) float32)."""
    return tables.read_table(folder / READERS_FILE)


def reader_points(folder: Path, reader: str, ids: np.ndarray | pd.Series | list[str]) -> np.ndarray:
    """(N, 19, 2) float64 raw px of one reader on the films `ids`, in their order; NaN where there is none.

    Raises:
        StageError: nobody of that name labelled a film; names those who did.
    """
    table = read_readers(folder)
    own = table[table["reader"] == reader].set_index("id")["landmarks"]
    if own.empty:
        known = ", ".join(sorted(set(table["reader"]))) or "nobody"
        raise StageError(f"{folder}: no film has a label of reader '{reader}'; there are those of {known}")
    none = np.full(2 * CEPH.n_points, np.nan)
    points = [own.loc[i] if i in own.index else none for i in ids]
    return np.array(points, np.float64).reshape(len(points), CEPH.n_points, 2)
