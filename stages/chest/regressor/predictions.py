"""Predicted points as stages hand them to each other: one row a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.chest.schema import CHEST
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms


def write_predictions(
    path: Path, data: LabelledFilms, rows: np.ndarray, method: str, points_raw: np.ndarray
) -> None:
    """Write id, role, method and landmarks (raw px) of the films `rows`, whose points are (n, 15, 2)."""
    table = pd.DataFrame(
        {
            "id": data.films.ids[rows],
            "role": data.roles[rows],
            "method": method,
            "landmarks": list(points_raw.astype(np.float32)),
        }
    )
    columns = [tables.column(name, pa.string()) for name in ("id", "role", "method")]
    columns.append(tables.points_column("landmarks", CHEST.n_points, "raw px"))
    tables.write_table(path, table.sort_values("id"), pa.schema(columns))
