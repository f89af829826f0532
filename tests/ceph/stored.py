"""Drawn films small enough to train on in a second: a bright spot on a grey ground for each landmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.ceph import base
from stages.ceph.schema import CEPH
from stages.ceph.spacing import write_spacing
from stages.core.data import tables
from stages.core.data.films import film_schema, pseudonym
from stages.core.data.split import write_split

STORED = (80, 64)
"""height, width of the stored pictures"""
RAW = (192, 240)
"""width, height of the films, three times the stored ones"""
SPACING_MM = (0.9, 0.9)
FACE = np.array(
    [
        (78, 78), (146, 70), (134, 96), (62, 92), (148, 124), (142, 158), (144, 174), (130, 190), (138, 183),
        (78, 158), (146, 142), (150, 136), (168, 132), (162, 150), (158, 116), (156, 176), (102, 118), (153, 112),
        (70, 118),
    ],
    float,
)  # fmt: skip
"""(19, 2) raw px, a face that looks to the right"""


def draw_film(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A film (240, 192) uint8 and its points (19, 2) in raw px."""
    points = FACE + rng.uniform(-8, 8, 2) + rng.uniform(-1, 1, FACE.shape)
    film = 60.0 + rng.normal(0, 2, RAW[::-1])
    rows, columns = np.mgrid[: RAW[1], : RAW[0]]
    for k, (x, y) in enumerate(points):
        film += (40 + 6 * k) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    return np.clip(film, 0, 255).astype(np.uint8), points


def write_store(root: Path, n: int = 24, seed: int = 0, name: str = "phantom") -> tuple[Path, Path]:
    """A film store and its split under `root`: a quarter of the films each in val, gate and test."""
    from stages.core.data import geometry

    rng = np.random.default_rng(seed)
    drawn = [draw_film(rng) for _ in range(n)]
    ids = sorted(pseudonym("ceph", str(i)) for i in range(n))
    films = root / "films"
    films.mkdir(parents=True)
    np.save(films / "images.npy", np.stack([geometry.resize(pixels, STORED) for pixels, _ in drawn]))
    table = pd.DataFrame({"id": ids, "patient": ids, "group": "", "width": RAW[0], "height": RAW[1]})
    table["landmarks"] = [points.astype(np.float32) for _, points in drawn]
    table["phantom"] = name == "phantom"
    tables.write_table(films / "films.parquet", table, film_schema(CEPH.n_points))
    (films / "dataset.json").write_text(f'{{"name": "{name}", "lane": "ceph", "frame": "raw"}}')
    write_spacing(films, np.array(ids), dict.fromkeys(ids, SPACING_MM))
    roles = ["val", "gate", "test", "train"] + ["train"] * (n - 4)
    roles[4 : 4 + n // 4] = ["val"] * (n // 4)
    write_split(root / "split.parquet", pd.DataFrame({"id": ids, "patient": ids, "role": roles}))
    return films, root / "split.parquet"


def fit_settings(epochs: int = 2, **changes: Any) -> dict[str, Any]:
    phase = {"name": "all", "epochs": epochs, "rates": {"backbone": 0.02, "head": 0.02}}
    phase["weights"] = {"cross_entropy": 1.0, "l1_cells": 0.1}
    plain = {
        "batch_size": 4, "weight_decay": 0.0, "schedule": "one-cycle", "warmup": 0.2, "clip_norm": 1.0,
        "ema_decay": 0.0, "patience": 0, "monitor": "", "precision": "float32", "checkpoint_every": 1,
        "phases": [phase],
    }  # fmt: skip
    return plain | changes


def settings(**changes: Any) -> dict[str, Any]:
    """Parameters of a U-Net of some ten thousand numbers."""
    network = {
        "form": "unet", "backbone": "", "weights": "random", "channels": [8, 16, 24, 32], "stride": 1, "dropout": 0.2,
        "maps": "softmax", "sigma": 2.0, "decode": "local",
    }  # fmt: skip
    augment = {
        "mirror": 0.0, "rotation": 3.0, "log_scale": 0.03, "shift": 0.01, "stretch": 0.01, "photometric": [],
    }  # fmt: skip
    plain = {
        "input": {"height": STORED[0], "width": STORED[1]},
        "network": network,
        "augment": augment,
        "views": [{"rotation": 0.0, "log_scale": 0.0}],
        "fit": fit_settings(),
    }
    return plain | changes


def base_params(**changes: Any) -> base.Params:
    shared = {"seed": 5, "threads": 1, "device": "cpu", "world_size": 1, "coarse": None}
    return base.Params.model_validate(settings() | shared | changes)
