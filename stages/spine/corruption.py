"""Mistakes of the kinds that networks make on spines, played on points whose right places are known.

All functions take the points (K, 2) of one film, in any frame, and return new ones of the same shape. Three
kinds of mistakes are those of KeyBot's reference code (arXiv 2409.03261):

    shift        a stretch of the spine lies one vertebra too high or too low; the count has slipped
    neighbours   a few points lie on the places of points nearby
    sides        left and right have changed places
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.core.data.schema import LandmarkSchema
from stages.spine.schema import CORNERS

Corruption = Callable[[np.ndarray, LandmarkSchema, np.random.Generator], np.ndarray]

MOVED = (0.25, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05)
"""Probabilities that `neighbours` moves 0, 1, 2, ... points."""
REACH = 4
"""How many places away, in the schema's order, `neighbours` looks."""
EXCHANGED = 0.9
"""Probability that `sides` exchanges a pair."""


def shift(points: np.ndarray, schema: LandmarkSchema, rng: np.random.Generator) -> np.ndarray:
    """Move a random stretch of vertebrae onto their neighbours: one up, or one down, all alike.

    The stretch reaches the spine's end, its beginning, neither or both with equal probability. What would
    leave the spine continues it by the distance of the last two vertebrae.
    """
    spine = as_vertebrae(points)
    n = len(spine)
    if n < 2:
        raise ValueError(f"a shift needs at least 2 vertebrae, there are {n} ({schema.n_points} points)")
    first, last = sorted(rng.choice(n + 1, 2, replace=False))  # at least one vertebra: [first, last)
    kind = rng.integers(4)
    if kind in (0, 3):
        last = n
    if kind in (1, 3):
        first = 0
    step = rng.choice((-1, 1))
    beyond = np.stack([2 * spine[0] - spine[1], *spine, 2 * spine[-1] - spine[-2]])
    moved = spine.copy()
    moved[first:last] = beyond[first + 1 + step : last + 1 + step]
    return moved.reshape(points.shape)


def neighbours(points: np.ndarray, schema: LandmarkSchema, rng: np.random.Generator) -> np.ndarray:
    """Put a few random points onto the right place of a point up to REACH away in the schema's order."""
    k = schema.n_points
    n = min(int(rng.choice(len(MOVED), p=MOVED)), k)
    moved = points.copy()
    for point in rng.choice(k, n, replace=False):
        near = [i for i in range(max(point - REACH, 0), min(point + REACH + 1, k)) if i != point]
        moved[point] = points[rng.choice(near)]
    return moved


def sides(
    points: np.ndarray, schema: LandmarkSchema, rng: np.random.Generator, exchanged: float = EXCHANGED
) -> np.ndarray:
    """Exchange the two points of each left-right pair with probability `exchanged`."""
    order = np.arange(schema.n_points)
    for pair in schema.pairs:
        if rng.random() < exchanged:
            order[list(pair)] = order[list(pair)][::-1]
    return points[order]


def clean(points: np.ndarray, schema: LandmarkSchema, rng: np.random.Generator) -> np.ndarray:
    """No mistake: without such examples a network learns that something is always wrong."""
    return points.copy()


CORRUPTIONS: dict[str, Corruption] = {
    "shift": shift,
    "neighbours": neighbours,
    "sides": sides,
    "clean": clean,
}


def as_vertebrae(points: np.ndarray) -> np.ndarray:
    """(..., 4 V, 2) -> (..., V, 4, 2): the corners of each vertebra, top to bottom."""
    return points.reshape(*points.shape[:-2], -1, len(CORNERS), 2)
