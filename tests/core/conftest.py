"""A film store small enough for a test: bright blobs at five landmarks, two films a patient."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.core.data import geometry, tables
from stages.core.data.films import film_schema
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import write_split

BLOBS = LandmarkSchema(
    lane="blobs",
    names=("top", "left", "right", "lower left", "lower right"),
    pairs=((1, 2), (3, 4)),
)
MODEL_SIZE = (48, 32)
ROLES = ("train",) * 48 + ("val",) * 16 + ("gate",) * 16 + ("test",) * 16


@dataclass(frozen=True)
class BlobStore:
    """Paths of a film store, its audit and its split, and the schema of its landmarks."""

    films: Path
    audit: Path
    split: Path
    schema: LandmarkSchema = BLOBS

    def open(self) -> LabelledFilms:
        return LabelledFilms.open(self.films, self.split, self.audit)


@pytest.fixture(scope="session")
def blob_store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    """96 films whose blobs move, grow and sway; one train and one test label are suspect."""
    folder = tmp_path_factory.mktemp("blobs")
    store = BlobStore(folder / "films", folder / "audit", folder / "split.parquet")
    rng = np.random.default_rng(3)
    model = _shapes(rng, len(ROLES))
    images = np.stack([_picture(points, rng) for points in model])
    sizes = np.column_stack([rng.integers(60, 90, len(ROLES)), rng.integers(100, 140, len(ROLES))])
    raw = np.stack(
        [
            geometry.apply(geometry.resize_matrix(MODEL_SIZE, (height, width)), points)
            for points, (width, height) in zip(model, sizes, strict=True)
        ]
    )
    ids = [f"blobs-{i:03}" for i in range(len(ROLES))]
    patients = [f"patient-{i // 2:03}" for i in range(len(ROLES))]
    suspect = np.isin(np.arange(len(ROLES)), [5, 90])
    store.films.mkdir()
    np.save(store.films / "images.npy", images)
    described = {"name": "phantom", "lane": "blobs", "frame": "raw"}
    (store.films / "dataset.json").write_text(json.dumps(described))
    films = pd.DataFrame(
        {
            "id": ids,
            "patient": patients,
            "group": np.where(np.arange(len(ids)) % 2, "odd", "even"),
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            "landmarks": list(raw),
            "phantom": True,
        }
    )
    tables.write_table(store.films / "films.parquet", films, film_schema(BLOBS.n_points))
    status = np.where(suspect, "suspect", "ok")
    audit = pd.DataFrame(
        {"id": ids, "landmarks": list(raw), "status": status, "reasons": "", "use": ~suspect}
    )
    columns = [tables.column("id", pa.string()), tables.points_column("landmarks", BLOBS.n_points, "raw px")]
    columns += [tables.column("status", pa.string()), tables.column("reasons", pa.string())]
    columns += [tables.column("use", pa.bool_())]
    tables.write_table(store.audit / "labels.parquet", audit, pa.schema(columns))
    write_split(store.split, pd.DataFrame({"id": ids, "patient": patients, "role": ROLES}))
    return store


def _shapes(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 5, 2) in model px."""
    plain = np.array([[16, 8], [8, 22], [24, 22], [6, 38], [26, 38]], float)
    centre = np.array([15.5, 23.5])
    shift, scale = rng.normal(0, [1.5, 2.5], (n, 1, 2)), rng.normal(1, 0.08, (n, 1, 1))
    sway = rng.normal(0, 0.05, (n, 1)) * (plain[:, 1] - centre[1])
    shapes = centre + (plain - centre) * scale + shift
    shapes[..., 0] += sway
    return shapes


def _picture(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[: MODEL_SIZE[0], : MODEL_SIZE[1]]
    square = (columns - points[:, 0, None, None]) ** 2 + (rows - points[:, 1, None, None]) ** 2
    grey = 30 + 180 * np.exp(-square / 10).sum(0) + rng.normal(0, 5, MODEL_SIZE)
    return np.clip(grey, 0, 255).astype(np.uint8)
