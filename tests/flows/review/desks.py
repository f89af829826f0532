"""A small review to test with: drawn films, five landmarks, a queue of eight items."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from starlette.testclient import TestClient

from flows.review.config import Item, ReviewConfig
from flows.review.films import FilmPictures, Origin
from flows.review.server import create_app
from stages.core.data.films import DatasetInfo, FilmSet, film_schema
from stages.core.data.schema import LandmarkSchema
from stages.core.data.tables import read_table, write_table

SCHEMA = LandmarkSchema(
    lane="ceph",
    names=("sella", "nasion", "gonion", "menton", "upper_incisor"),
    pairs=(),
    edges=((0, 1), (2, 3)),
)
WIDTH, HEIGHT = 300, 360
STORED = (120, 100)
SPACING = (0.1, 0.2)
FILMS = tuple(f"ceph-{i:010x}" for i in range(6))
PLACES = np.array([[110.0, 100.0], [220.0, 80.0], [90.0, 250.0], [210.0, 300.0], [240.0, 210.0]])
BLINDED, REPEAT = 3, 8
"""ranks"""


class Clock:
    """Time that stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def drawn_film(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A picture (H, W) with some likeness to a lateral film: dark, a bright skull, a grain."""
    rows, columns = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    skull = np.exp(-((((columns - 0.5) / 0.33) ** 2 + ((rows - 0.4) / 0.34) ** 2 - 1) ** 2) / 0.02)
    inside = ((columns - 0.5) / 0.33) ** 2 + ((rows - 0.4) / 0.34) ** 2 < 1
    jaw = np.exp(-(((columns - 0.45 - 0.3 * (rows - 0.7)) / 0.2) ** 2 + ((rows - 0.8) / 0.12) ** 2) * 2)
    grain = np.random.default_rng(seed).normal(0, 5, size)
    return np.clip(15 + 110 * skull + 55 * inside + 90 * jaw + grain, 0, 255).astype(np.uint8)


def film_store(folder: Path) -> FilmSet:
    """A film store of FILMS, each filmed at WIDTH x HEIGHT."""
    n = len(FILMS)
    table = pd.DataFrame(
        {
            "id": FILMS,
            "patient": FILMS,
            "group": [""] * n,
            "width": [WIDTH] * n,
            "height": [HEIGHT] * n,
            "landmarks": [np.full((SCHEMA.n_points, 2), np.nan)] * n,
            "phantom": [True] * n,
        }
    )
    write_table(folder / "films.parquet", table, film_schema(SCHEMA.n_points))
    np.save(folder / "images.npy", np.stack([drawn_film(i, STORED) for i in range(n)]))
    return FilmSet(
        folder,
        np.load(folder / "images.npy", mmap_mode="r"),
        read_table(folder / "films.parquet"),
        DatasetInfo("phantom", "ceph"),
    )


def queue_items() -> list[Item]:
    """Five films to check, one of them blinded, one drawn by chance, ..., and the first film again."""
    rows = [(i + 1, film, "uncertain") for i, film in enumerate(FILMS[:5])]
    rows += [(6, FILMS[5], "random_audit"), (7, FILMS[1], "repeat"), (REPEAT, FILMS[0], "repeat")]
    return [
        Item(
            rank=rank,
            film=film,
            kind=kind,  # type: ignore[arg-type]
            blinded=rank == BLINDED,
            score=1.0 / rank,
            reason=f"low_peak: gonion ({rank})",
            points=PLACES + rank + 0.137,
            expected_error=np.array([4.0, 6.0, 25.0, 9.0, 14.0]) / rank**0.5,
            spacing=SPACING,
            model_key="ab" * 32,
        )
        for rank, film, kind in rows
    ]


def review_config(folder: Path, **changes: Any) -> ReviewConfig:
    store = film_store(folder / "films")
    config = ReviewConfig(
        schema=SCHEMA,
        items=queue_items(),
        pictures=FilmPictures([Origin(store, None)], {}),
        database=folder / "events.sqlite",
        round=1,
        dataset="phantom",
        port=8123,
    )
    return replace(config, **changes)


@dataclass
class Page:
    """What the page does, without a browser."""

    client: TestClient
    annotator: str = "Ada"

    def as_(self, annotator: str) -> Page:
        return Page(self.client, annotator)

    def get(self, path: str) -> Any:
        return self.client.get(path, params={"annotator": self.annotator})

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return self.client.post(path, json={"annotator": self.annotator, **body}, headers=headers)

    def open(self, rank: int) -> dict[str, Any]:
        answer = self.post(f"/api/items/{rank}/open")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def say(self, rank: int, *said: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        return self.post(f"/api/items/{rank}/events", headers, events=list(said))

    def finish(self, rank: int, verdict: str = "accept") -> dict[str, Any]:
        answer = self.say(rank, *[verdict_on(name, verdict) for name in SCHEMA.names])
        assert answer.status_code == 200, answer.text
        return answer.json()["item"]

    def next(self, skip: Sequence[int] = ()) -> int | None:
        item = self.post("/api/next", skip=list(skip)).json()["item"]
        return item and item["rank"]


def verdict_on(landmark: str, verdict: str = "accept", **more: Any) -> dict[str, Any]:
    """A verdict as the page sends it."""
    place = {"x": 50.0, "y": 60.0} if verdict == "correct" else {}
    return {
        "event_id": uuid.uuid4().hex,
        "landmark": landmark,
        "verdict": verdict,
        "dwell_ms": 1500,
        **place,
        **more,
    }


def client_of(config: ReviewConfig) -> TestClient:
    return TestClient(
        create_app(config), base_url="http://127.0.0.1:8123", headers={"origin": "http://127.0.0.1:8123"}
    )
