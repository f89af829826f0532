"""Which part of a film a network reads, as one map a film from stored px to those of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stages.chest.alignment import Canonical
from stages.core.data import geometry


class Frames(Protocol):
    """What training and prediction ask: maps (n, 2, 3) of the films `rows`, as they are or varied at random."""

    def fixed(self, rows: np.ndarray) -> np.ndarray: ...

    def drawn(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class WholeFilm:
    """Every film from edge to edge."""

    stored: geometry.Size
    size: geometry.Size

    def fixed(self, rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(geometry.resize_matrix(self.stored, self.size), (len(rows), 2, 3))

    def drawn(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        return self.fixed(rows)


@dataclass(frozen=True)
class Aligned:
    """Crops about a guess of the points; in training also about other guesses that are wrong in the same way.

    Attributes:
        canonical: where the mean shape lies in the crop.
        guesses: (N, 15, 2) of all films, stored px.
        errors: (M, 15, 2), guess minus label of films that are trained on.
        share: of training samples whose guess is moved by another film's error, either way.
        strength: factor on that error.
    """

    canonical: Canonical
    guesses: np.ndarray
    errors: np.ndarray
    share: float
    strength: float

    def fixed(self, rows: np.ndarray) -> np.ndarray:
        return self.canonical.maps(self.guesses[rows])

    def drawn(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        n = len(rows)
        moved = self.errors[rng.integers(len(self.errors), size=n)]
        factor = self.strength * rng.choice([-1.0, 1.0], n) * (rng.random(n) < self.share)
        return self.canonical.maps(self.guesses[rows] + factor[:, None, None] * moved)
