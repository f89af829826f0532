"""Stand-ins for what the lane's training writes: a system that follows a film's brightness, and phases."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.chest.schema import CHEST
from stages.core.data import geometry, tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.model.card import CARD, ModelCard, load_card

COVERAGE = 0.9
RADIUS_PX224 = np.linspace(6, 20, 15)
PARENTS = {
    "head_mse": "start",
    "full_mse": "head_mse",
    "head_wing": "start",
    "full_wing": "head_wing",
    "attention": "full_wing",
    "symmetry": "full_wing",
    "complete": "symmetry",
}


@dataclass(frozen=True)
class Answer:
    points: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class StandIn:
    """Opens and answers like the lane's system: one shape, moved with the film's centre of brightness."""

    card: ModelCard
    shape: np.ndarray
    stored_size: geometry.Size
    out_of_fold: pd.DataFrame

    @classmethod
    def open(cls, folder: Path) -> StandIn:
        card = load_card(folder)
        height, width = card.params["stored_size"]
        table = tables.read_table(folder / "out_of_fold.parquet")
        return cls(card, np.load(folder / "shape.npy"), (height, width), table)

    def predict(self, images: np.ndarray) -> Answer:
        bright = images.astype(float)
        total = bright.sum((1, 2))
        x = (bright.sum(1) * np.arange(images.shape[2])).sum(1) / total
        y = (bright.sum(2) * np.arange(images.shape[1])).sum(1) / total
        moved = np.stack([x, y], axis=1)[:, None] - np.array(images.shape[:0:-1]) / 2
        return Answer(self.shape + moved, np.tile(RADIUS_PX224, (len(images), 1)))

    def predict_film(self, pixels: np.ndarray) -> Answer:
        found = self.predict(geometry.resize(pixels, self.stored_size)[None])
        to_film = geometry.resize_matrix(self.stored_size, pixels.shape)
        return Answer(geometry.apply(to_film, found.points), found.radius)


@contextmanager
def standing_in() -> Iterator[None]:
    """Stages find the stand-in where they look for the lane's system."""
    module = ModuleType("stages.chest.system_model")
    module.TrainedSystem = StandIn  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        yield


def write_card(folder: Path, data: LabelledFilms, split: Path, params: Mapping[str, object]) -> None:
    card = ModelCard(
        lane="chest",
        dataset=data.films.info.name,
        architecture="stand-in",
        key="untracked",
        params=dict(params),
        input=None,
        schema=CHEST.names,
        n_train=len(data.trainable()),
        split_sha256=split_digest(read_split(split)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(card.model_dump_json(by_alias=True), encoding="utf-8")


def write_system(folder: Path, films: Path, split: Path, off_px: float = 4.0) -> Path:
    """A system whose out-of-fold points of development films are off by some `off_px` raw px."""
    data = LabelledFilms.open(films, split)
    params = {"coverage": COVERAGE, "stored_size": list(data.films.model_size)}
    write_card(folder, data, split, params)
    np.save(folder / "shape.npy", data.landmarks_model[data.rows("train")].mean(0))
    rows = data.rows("train", "val")
    points = data.landmarks_raw[rows] + np.random.default_rng(3).normal(0, off_px, (len(rows), 15, 2))
    table = pd.DataFrame(
        {
            "id": data.films.ids[rows],
            "landmarks": list(points.astype(np.float32)),
            "radius_px224": list(np.tile(np.float32(7.5), (len(rows), 15))),
        }
    )
    radius = pa.field("radius_px224", pa.list_(pa.float32(), 15), nullable=False)
    schema = pa.schema(
        [tables.column("id", pa.string()), tables.points_column("landmarks", 15, "raw px"), radius]
    )
    tables.write_table(folder / "out_of_fold.parquet", table, schema)
    return folder


def write_phases(
    folder: Path, films: Path, split: Path, parents: Mapping[str, str] = PARENTS, start: str = "random"
) -> Path:
    """Phases whose points are off by 12, 11, ... raw px in the order of `parents`."""
    data = LabelledFilms.open(films, split)
    write_card(folder / "start", data, split, {"start": start})
    rows = data.rows("val", "gate", "test")
    rng = np.random.default_rng(4)
    for k, (name, parent) in enumerate(parents.items()):
        write_card(folder / name, data, split, {"parent": parent})
        points = data.landmarks_raw[rows] + rng.normal(0, 12.0 - k, (len(rows), 15, 2))
        table = pd.DataFrame(
            {
                "id": data.films.ids[rows],
                "role": data.roles[rows],
                "method": name,
                "landmarks": list(points.astype(np.float32)),
            }
        )
        texts = [tables.column(column, pa.string()) for column in ("id", "role", "method")]
        schema = pa.schema([*texts, tables.points_column("landmarks", 15, "raw px")])
        tables.write_table(folder / name / "predictions.parquet", table, schema)
    return folder
