"""What a review is about: the lane, its queue, its films, and where the events go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from flows.review.store import item_key
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.review.events import SHOWN, QueueKind
from stages.core.review.queue import read_queue

LEASE_SECONDS = 600.0
"""how long a film stays with a reviewer who does nothing"""


@dataclass(frozen=True)
class Item:
    """One row of the queue: a film to open. A repeat is another item of the same film.

    Attributes:
        rank: place in the queue, from 1; what the page knows the item by.
        film: pseudonym.
        kind, blinded, score, reason, model_key: see `stages.core.review.queue`.
        points: (K, 2) predicted, raw px.
        expected_error: (K,) raw px.
        spacing: mm per raw px along x and y, or None.
    """

    rank: int
    film: str
    kind: QueueKind
    blinded: bool
    score: float
    reason: str
    points: np.ndarray
    expected_error: np.ndarray
    spacing: tuple[float, float] | None
    model_key: str

    @property
    def key(self) -> str:
        """What the database knows it by."""
        return item_key(self.film, self.kind)

    @property
    def spacing_mm(self) -> float | None:
        """Mean of both directions."""
        return sum(self.spacing) / 2 if self.spacing else None

    def moved_mm(self, landmark: int, x: float, y: float) -> float | None:
        """Distance (x, y), raw px, from the prediction; None where the spacing is unknown."""
        if self.spacing is None:
            return None
        return float(np.hypot(*((np.array([x, y]) - self.points[landmark]) * self.spacing)))


def read_items(file: Path, schema: LandmarkSchema) -> list[Item]:
    """The rows of a queue file, by rank.

    Raises:
        StageError: the file is no queue of this lane's landmarks.
    """
    items = [_item(row) for row in read_queue(file).to_dict("records")]
    if not items:
        raise StageError(f"{file} is empty: there is nothing to review")
    if strange := [item.film for item in items if len(item.points) != schema.n_points]:
        raise StageError(
            f"{file} is not of the lane {schema.lane}, which has {schema.n_points} landmarks: "
            f"{', '.join(strange[:SHOWN])}"
        )
    if doubled := [key for key, n in Counter(item.key for item in items).items() if n > 1]:
        raise StageError(f"{file} shows films more than twice: {', '.join(doubled[:SHOWN])}")
    return items


def _item(row: Mapping[Hashable, Any]) -> Item:
    spacing = np.array([row["spacing_x_mm"], row["spacing_y_mm"]], np.float64)
    return Item(
        rank=int(row["rank"]),
        film=str(row["id"]),
        kind=row["kind"],
        blinded=bool(row["blinded"]),
        score=float(row["score"]),
        reason=str(row["reason"]),
        points=np.asarray(row["landmarks"], np.float64),
        expected_error=np.asarray(row["expected_error"], np.float64),
        spacing=(float(spacing[0]), float(spacing[1])) if np.isfinite(spacing).all() else None,
        model_key=str(row["model_key"]),
    )


class Pictures(Protocol):
    """Where the films of a queue come from; see `flows.review.films`."""

    def size(self, film: str) -> tuple[int, int]:
        """width, height in raw px."""

    def etag(self, film: str) -> str:
        """Changes when the picture does."""

    def png(self, film: str) -> bytes:
        """The film in its raw size, 8 bits."""

    def missing(self, films: list[str]) -> list[str]:
        """Those of the films that are not here."""


HeatmapPng = Callable[[str, int], bytes]
"""film, number of the landmark -> a transparent picture of where the model looks for it"""


@dataclass(frozen=True)
class ReviewConfig:
    """All that the server needs.

    Attributes:
        schema: landmarks of the lane.
        items: the queue by rank.
        pictures: the films.
        database: file of the live events.
        round: which round of the loop the events belong to.
        dataset: what the model was trained on, for the page.
        host, port: where the server listens; requests under another name are refused.
        read_only: show, but take no verdicts.
        annotator: name to offer in the page.
        heatmap: draws a probability map, or None where no model is at hand.
        lease_seconds, clock: of the leases; `clock` gives seconds since the epoch.
    """

    schema: LandmarkSchema
    items: list[Item]
    pictures: Pictures
    database: Path
    round: int
    dataset: str
    host: str = "127.0.0.1"
    port: int = 0
    read_only: bool = False
    annotator: str = ""
    heatmap: HeatmapPng | None = None
    lease_seconds: float = LEASE_SECONDS
    clock: Callable[[], float] = field(default=time.time)

    def __post_init__(self) -> None:
        if absent := self.pictures.missing([item.film for item in self.items]):
            raise StageError(
                f"{len(absent)} films of the queue are not in the film store ({', '.join(absent[:SHOWN])}): "
                "the queue is of other films; run `dvc repro` for it"
            )

    @property
    def lane(self) -> str:
        return self.schema.lane

    @cached_property
    def by_rank(self) -> dict[int, Item]:
        return {item.rank: item for item in self.items}

    @cached_property
    def films(self) -> frozenset[str]:
        return frozenset(item.film for item in self.items)


def table_of(items: list[Item]) -> pd.DataFrame:
    """Items as rows for `write_queue`."""
    nan = float("nan")
    return pd.DataFrame(
        {
            "rank": [item.rank for item in items],
            "id": [item.film for item in items],
            "kind": [item.kind for item in items],
            "blinded": [item.blinded for item in items],
            "score": [item.score for item in items],
            "reason": [item.reason for item in items],
            "landmarks": pd.Series([item.points for item in items], dtype=object),
            "expected_error": pd.Series([item.expected_error for item in items], dtype=object),
            "spacing_x_mm": [item.spacing[0] if item.spacing else nan for item in items],
            "spacing_y_mm": [item.spacing[1] if item.spacing else nan for item in items],
            "model_key": [item.model_key for item in items],
        }
    )
