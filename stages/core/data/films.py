"""The film store: one memory-mapped array of pictures and one table, for every film lane.

images.npy       (N, H, W) uint8, the films stretched to one size; the `model` frame
films.parquet    one row a film in the same order: pseudonym, patient, size and labels in the `raw` frame
quarantine.csv   films that could not be taken in, with a reason
dataset.json     name of the data set, lane, frame, counts
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import geometry, tables
from stages.core.errors import StageError


def film_schema(n_points: int) -> pa.Schema:
    """Columns of films.parquet for a lane with `n_points` landmarks."""
    return pa.schema(
        [
            tables.column("id", pa.string()),
            tables.column("patient", pa.string()),
            tables.column("group", pa.string()),
            tables.column("width", pa.int32(), "raw px"),
            tables.column("height", pa.int32(), "raw px"),
            tables.points_column("landmarks", n_points, "raw px"),
            tables.column("phantom", pa.bool_()),
        ]
    )


def pseudonym(lane: str, name: str) -> str:
    """A stable stand-in for a file or patient name: the same in every checkout, readable by nobody."""
    return f"{lane}-{hashlib.sha256(f'{lane}:{name}'.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of dataset.json in a film store. `name` decides which models compete with each other."""

    name: str
    lane: str
    frame: str = "raw"

    @property
    def is_phantom(self) -> bool:
        return self.name == "phantom"


def dataset_name(raw: Path, default: str) -> str:
    """Name of the data set in a raw folder: from its dataset.json, else the lane's default."""
    described = raw / "dataset.json"
    if not described.is_file():
        return default
    try:
        name = json.loads(described.read_text(encoding="utf-8"))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(f'{described}: expected {{"name": "..."}}, found something else ({error})') from None
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise StageError(f"{described}: name {name!r} must be letters, digits, - and _")
    return name


@dataclass(frozen=True)
class FilmSet:
    """An opened film store. Rows of `table`, `images` and all arrays are in the same order."""

    folder: Path
    images: np.ndarray
    table: pd.DataFrame
    info: DatasetInfo

    @classmethod
    def open(cls, folder: Path) -> FilmSet:
        table = tables.read_table(folder / "films.parquet")
        images = np.load(folder / "images.npy", mmap_mode="r")
        if len(images) != len(table):
            raise StageError(f"{folder}: {len(images)} pictures but {len(table)} rows; convert again")
        info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        return cls(folder, images, table, DatasetInfo(**{k: info[k] for k in ("name", "lane", "frame")}))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> np.ndarray:
        """(N,) pseudonyms."""
        return self.table["id"].to_numpy()

    @property
    def landmarks_raw(self) -> np.ndarray:
        """(N, K, 2) float32 labels in raw px; NaN where a film has none."""
        return tables.stack_points(self.table["landmarks"])

    @property
    def sizes_raw(self) -> np.ndarray:
        """(N, 2) int: width, height in raw px."""
        return self.table[["width", "height"]].to_numpy()

    @property
    def model_size(self) -> geometry.Size:
        """(height, width) of the stored pictures."""
        return self.images.shape[1], self.images.shape[2]

    def rows(self, ids: pd.Series | np.ndarray | list[str]) -> np.ndarray:
        """Row numbers of the given ids, in their order; an id that is not here is an error."""
        where = pd.Index(self.ids).get_indexer(pd.Index(ids))
        if (where < 0).any():
            raise StageError(
                f"{self.folder}: no films {[i for i, w in zip(ids, where, strict=True) if w < 0][:10]}"
            )
        return where

    def to_model(self, points_raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Points (n, K, 2) of the films `rows` from raw to model px."""
        return self._map(points_raw, rows, inverse=False)

    def to_raw(self, points_model: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Points (n, K, 2) of the films `rows` from model to raw px."""
        return self._map(points_model, rows, inverse=True)

    def _map(self, points: np.ndarray, rows: np.ndarray, inverse: bool) -> np.ndarray:
        mapped = np.empty(np.shape(points), np.float64)
        for i, (width, height) in enumerate(self.sizes_raw[rows]):
            matrix = geometry.resize_matrix((height, width), self.model_size)
            mapped[i] = geometry.apply(geometry.invert(matrix) if inverse else matrix, points[i])
        return mapped
