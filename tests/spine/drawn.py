"""Film stores of small drawn spines (bright boxes on noise, with an audit and a split) and small networks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import geometry, tables
from stages.core.data.films import film_schema
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import write_split
from stages.core.model.card import InputSize
from stages.core.params import load_params
from stages.spine import refiner

STORED = (64, 32)
ROLES = ("train", "train", "train", "train", "val", "gate", "test", "test")
"""of films 0 to 7, then again"""


@dataclass(frozen=True)
class SpineStore:
    """Paths of a film store, its audit and its split."""

    films: Path
    audit: Path
    split: Path

    def open(self) -> LabelledFilms:
        return LabelledFilms.open(self.films, self.split, self.audit)


def draw_spines(rng: np.random.Generator, n: int, n_vertebrae: int) -> tuple[np.ndarray, np.ndarray]:
    """n films (n, 64, 32) uint8 and their corners (n, 4 V, 2) in model px; vertebrae lie under each other."""
    pitch = 48 / n_vertebrae
    top = rng.uniform(2, 12, n)
    middle = rng.uniform(11, 20, n)
    half = 0.35 * pitch
    points = np.empty((n, n_vertebrae, 4, 2))
    rows, columns = np.mgrid[: STORED[0], : STORED[1]]
    films = rng.normal(60, 10, (n, *STORED))
    for film in range(n):
        for i in range(n_vertebrae):
            x = middle[film] + 3 * np.sin(i / n_vertebrae * 3)
            y = top[film] + (i + 0.5) * pitch
            wide = 4 + 2 * i / n_vertebrae
            points[film, i] = [
                [x - wide, y - half],
                [x + wide, y - half],
                [x - wide, y + half],
                [x + wide, y + half],
            ]
            films[film][(abs(columns - x) < wide) & (abs(rows - y) < half)] += 70 + 40 * i / n_vertebrae
    return films.clip(0, 255).astype(np.uint8), points.reshape(n, -1, 2)


def write_store(
    folder: Path, schema: LandmarkSchema, n: int = 16, seed: int = 0, name: str = "phantom"
) -> SpineStore:
    """Write a store of drawn spines; film 1 (train) has a dropped label, film 6 (test) a suspect one."""
    store = SpineStore(folder / "films", folder / "audit", folder / "split.parquet")
    rng = np.random.default_rng(seed)
    images, model = draw_spines(rng, n, schema.n_points // 4)
    sizes = np.column_stack([rng.integers(300, 500, n), rng.integers(900, 1100, n)])
    raw = np.stack(
        [
            geometry.apply(geometry.resize_matrix(STORED, (height, width)), points)
            for points, (width, height) in zip(model, sizes, strict=True)
        ]
    )
    ids = [f"spine-{i:03}" for i in range(n)]
    roles = [ROLES[i % len(ROLES)] for i in range(n)]
    store.films.mkdir(parents=True)
    np.save(store.films / "images.npy", images)
    (store.films / "dataset.json").write_text(json.dumps({"name": name, "lane": "spine", "frame": "raw"}))
    films: dict[str, Any] = {
        "id": ids,
        "patient": ids,
        "group": "",
        "width": sizes[:, 0],
        "height": sizes[:, 1],
    }
    films |= {"landmarks": list(raw), "phantom": name == "phantom"}
    tables.write_table(store.films / "films.parquet", pd.DataFrame(films), film_schema(schema.n_points))
    status = np.array(["ok"] * n, object)
    status[[1, 6]] = ["dropped", "suspect"]
    labels = {
        "id": ids,
        "landmarks": list(raw),
        "status": status,
        "reasons": "",
        "use": np.arange(n) != 1,
    }
    columns = [tables.column("id", pa.string())]
    columns += [tables.points_column("landmarks", schema.n_points, "raw px")]
    columns += [tables.column(c, pa.string()) for c in ("status", "reasons")]
    columns += [tables.column("use", pa.bool_())]
    tables.write_table(store.audit / "labels.parquet", pd.DataFrame(labels), pa.schema(columns))
    write_split(store.split, pd.DataFrame({"id": ids, "patient": ids, "role": roles}))
    return store


def small(epochs: int = 1, clicks: int = 0, **fit: Any) -> refiner.Params:
    """The demo's parameters on films of 64 x 32 px, for seconds instead of minutes."""
    params = load_params(refiner.Params, profile="demo")
    phase = params.fit.phases[0].model_copy(update={"epochs": epochs})
    changed = {"batch_size": 4, "ema_decay": 0.5, "checkpoint_every": 1, "phases": (phase,), **fit}
    network = params.network.model_copy(
        update={
            "backbone": "hrnet_w18_small",
            "weights": "random",
            "decoder": "flat",
            "channels": 32,
            "mixer_layers": 1,
            "stride": 2,
            "sigma": 2.0,
            "hint_sigma": 2.0,
        }
    )
    return params.model_copy(
        update={
            "threads": 1,
            "input": InputSize(height=64, width=32),
            "network": network,
            "val_clicks": clicks,
            "fit": params.fit.model_copy(update=changed),
        }
    )
