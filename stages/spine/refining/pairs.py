"""Pairs and triplets of landmarks whose distances and angles the Refiner's morphology losses watch."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError

Criterion = Literal["anatomical", "lowest_variation", "lowest_deviation"]
LEAST_ANGLE = np.deg2rad(20.0)
"""Under `lowest_variation`, angles nearer to 0 or 180 degrees than this are no angles but straight lines."""


class Pairs(BaseModel):
    """Landmark indices: pairs (a, b) for distances, triplets (a, b, c) for the angle at b."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    criterion: Criterion
    pairs: tuple[tuple[int, int], ...]
    triplets: tuple[tuple[int, int, int], ...]

    @model_validator(mode="after")
    def _points_differ(self) -> Pairs:
        for indices in (*self.pairs, *self.triplets):
            if len(set(indices)) < len(indices):
                raise ValueError(f"{indices} names a landmark twice")
        return self

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.model_dump(mode="json")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Pairs:
        return cls.model_validate_json(file.read_text(encoding="utf-8"))


def choose_pairs(shapes: np.ndarray, schema: LandmarkSchema, criterion: Criterion, count: int) -> Pairs:
    """Choose pairs and triplets from training labels.

    Args:
        shapes: (N, K, 2) labels in shares of the film's sides.
        schema: its groups of four are the vertebrae of `anatomical`.
        criterion: `anatomical`: the sides of every vertebra, the gaps between neighbours, and the corner
            angles, whatever `count` is; `lowest_variation`: the `count` distances with the lowest deviation
            relative to their mean, and as many angles with the lowest circular deviation that are neither
            nearly 0 nor nearly 180 degrees; `lowest_deviation`: the same by absolute deviation, which is what
            the reference's file turns out to hold: the shortest distances, and angles next to 0.
        count: how many of each.
    """
    if criterion == "anatomical":
        return _anatomical(schema)
    if len(shapes) < 3:
        raise StageError(f"pairs.criterion '{criterion}' needs at least 3 labelled training films")
    relative = criterion == "lowest_variation"
    return Pairs(
        criterion=criterion,
        pairs=tuple(_steady_distances(shapes, count, relative)),
        triplets=tuple(_steady_angles(shapes, count, relative)),
    )


def _anatomical(schema: LandmarkSchema) -> Pairs:
    vertebrae = [tuple(group) for group in schema.groups.values() if len(group) == 4]
    pairs: list[tuple[int, int]] = []
    triplets: list[tuple[int, int, int]] = []
    for a, b, c, d in vertebrae:  # upper left, upper right, lower left, lower right
        pairs += [(a, b), (c, d), (a, c), (b, d)]
        triplets += [(b, a, c), (a, b, d), (a, c, d), (b, d, c)]
    for upper, lower in itertools.pairwise(vertebrae):
        pairs += [(upper[2], lower[0]), (upper[3], lower[1])]
    return Pairs(criterion="anatomical", pairs=tuple(pairs), triplets=tuple(triplets))


def _steady_distances(shapes: np.ndarray, count: int, relative: bool) -> list[tuple[int, int]]:
    first, second = np.triu_indices(shapes.shape[1], 1)
    lengths = np.linalg.norm(shapes[:, first] - shapes[:, second], axis=-1)  # (N, P)
    spread = lengths.std(0)
    if relative:
        spread = spread / lengths.mean(0).clip(1e-9)
    order = np.argsort(spread, kind="stable")[:count]
    return [(int(first[i]), int(second[i])) for i in order]


def _steady_angles(shapes: np.ndarray, count: int, relative: bool) -> list[tuple[int, int, int]]:
    found: list[tuple[float, int, int, int]] = []
    k = shapes.shape[1]
    first, second = np.triu_indices(k, 1)
    for vertex in range(k):
        away = shapes - shapes[:, vertex : vertex + 1]
        direction = away[..., 0] + 1j * away[..., 1]  # (N, K)
        turn = direction[:, second] * direction[:, first].conj()
        length = np.abs(turn)
        mean = (turn / length.clip(1e-12)).mean(0)  # (P,) resultants
        usable = (first != vertex) & (second != vertex) & (length.min(0) > 1e-12)
        if relative:
            angle = np.abs(np.angle(mean))
            usable &= (angle > LEAST_ANGLE) & (angle < np.pi - LEAST_ANGLE)
        spread = np.sqrt(-2 * np.log(np.abs(mean).clip(1e-12, 1.0)))
        best = np.flatnonzero(usable)[np.argsort(spread[usable], kind="stable")[:count]]
        found += [(float(spread[i]), int(first[i]), vertex, int(second[i])) for i in best]
    return [(a, b, c) for _, a, b, c in sorted(found)[:count]]
