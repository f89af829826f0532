"""What a scorer is worth on films with labels: does it rank wrong points first, and does it say how wrong they are?

Points of one film are alike, so that intervals draw whole films. Every measure takes weights (R, n), one row a
resample, and gives (R,): how often each point was drawn. Equal scores count as if chance ordered them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Resampling(BaseModel):
    """Bootstrap over films, percentile intervals.

    Attributes:
        resamples: number of samples.
        level: coverage that an interval aims at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    resamples: int = Field(ge=50)
    level: float = Field(gt=0.5, lt=1)


@dataclass(frozen=True)
class Estimate:
    """A value on all films with its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray, level: float) -> Estimate:
        """From values (1 + R,): on the films as they are, then on R resamples of them."""
        drawn = values[1:][np.isfinite(values[1:])]
        if not len(drawn):
            return cls(float(values[0]), float("nan"), float("nan"))
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return cls(float(values[0]), float(low), float(high))


def film_weights(groups: np.ndarray, settings: Resampling, seed: int) -> np.ndarray:
    """(1 + R, n) weights of points that belong to `groups` (n,): ones, then how often each group was drawn."""
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=settings.resamples)
    return np.vstack([np.ones((1, len(index))), drawn[:, index]])


def auroc(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability that a wrong point has a higher score than a right one; NaN without either.

    Args:
        scores: (n,). wrong: (n,) bool. weights: (R, n).
    """
    order, starts = _tied(scores)
    bad = np.add.reduceat(weights[:, order] * wrong[order], starts, axis=1)
    good = np.add.reduceat(weights[:, order] * ~wrong[order], starts, axis=1)
    below = good.cumsum(1) - good
    pairs = bad.sum(1) * good.sum(1)
    won = (bad * (below + good / 2)).sum(1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def aurc(scores: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the risk-coverage curve: mean error of the points kept, over all shares kept, surest first.

    (Geifman 2019, arXiv 1805.08206.) In the errors' unit; at best that of points sorted by their errors.
    """
    order, starts = _tied(scores)
    weights = weights[:, order]
    kept = weights.cumsum(1)
    risk = (weights * _evened(errors[order], starts)).cumsum(1) / np.maximum(kept, 1e-12)
    return (weights * risk).sum(1) / kept[:, -1]


def precision_at(k: int, scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of wrong points among the k least certain ones."""
    order, starts = _tied(scores)
    hit = _evened(wrong[order].astype(np.float64), starts)[::-1]
    weights = weights[:, order][:, ::-1]
    before = weights.cumsum(1) - weights
    taken = np.clip(k - before, 0, weights)
    return (taken * hit).sum(1) / taken.sum(1)


@dataclass(frozen=True)
class ReliabilityBin:
    """Points with about the same expected error: what was expected, and what came."""

    n_points: int
    expected: float
    actual: float


def reliability(expected: np.ndarray, errors: np.ndarray, bins: int) -> list[ReliabilityBin]:
    """Points (n,) in bins of equal number by their expected error, from the smallest up."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(bins, len(expected)))
    return [ReliabilityBin(len(p), float(expected[p].mean()), float(errors[p].mean())) for p in parts]


def calibration_error(found: list[ReliabilityBin]) -> float:
    """Mean over points of |expected - actual| of their bin, in the errors' unit."""
    counts = np.array([b.n_points for b in found])
    return float((counts * [abs(b.expected - b.actual) for b in found]).sum() / counts.sum())


def _tied(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of rising scores, and where in it each run of equal scores starts."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) > 0))
    return order, starts


def _evened(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Each run of equal scores with its mean in place of its values."""
    counts = np.diff(np.append(starts, len(values)))
    return np.repeat(np.add.reduceat(values, starts) / counts, counts)
