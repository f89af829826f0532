"""Rising curves through knots: a score's rank among known scores, and the error that a score lets expect.

Both go on rising beyond their last knot. Films of another clinic have scores that no known film had; a curve
that ended flat would call them all equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REFERENCE_KNOTS = 101
TAIL = 0.1
"""Share of the knots, from the top, whose slope a curve keeps beyond its last knot."""
LEAST_IN_BIN = 8
"""Points; fewer have no mean worth a knot."""


@dataclass(frozen=True)
class Rising:
    """Straight lines between knots x (n,) and y (n,), both strictly increasing; flat below the first knot."""

    x: np.ndarray
    y: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape -> float64 of the same shape."""
        values = np.asarray(values, np.float64)
        beyond = np.maximum(values - self.x[-1], 0.0)
        return np.interp(values, self.x, self.y) + self._slope * beyond

    @property
    def _slope(self) -> float:
        if len(self.x) < 2:
            return 0.0
        back = max(1, round(TAIL * len(self.x)))
        return float((self.y[-1] - self.y[-1 - back]) / (self.x[-1] - self.x[-1 - back]))


def fit_reference(scores: np.ndarray) -> Rising:
    """The share of known scores that lie at or below a score; above 1 for scores beyond them all."""
    shares = np.linspace(0.0, 1.0, REFERENCE_KNOTS)
    x = np.quantile(np.ravel(scores), shares)
    # Scores that repeat get the largest of their shares: "at or below".
    last = np.append(np.diff(x) > 0, True)
    return Rising(x[last], shares[last])


def fit_expected(scores: np.ndarray, errors: np.ndarray, bins: int) -> Rising:
    """Mean error by score: isotonic regression over quantile bins, straight between the centres of its blocks.

    A plain isotonic fit has steps, on which all scores are equal; through the centres of its steps it rises
    strictly (centred isotonic regression: Oron and Flournoy 2017, doi 10.1080/19466315.2017.1286256).

    Args:
        scores, errors: (n,), finite.
        bins: at most so many; fewer where a bin would hold under `LEAST_IN_BIN` points.
    """
    from scipy.optimize import isotonic_regression

    order = np.lexsort((errors, scores))
    parts = np.array_split(order, max(1, min(bins, len(order) // LEAST_IN_BIN)))
    x = np.array([scores[part].mean() for part in parts])
    y = np.array([errors[part].mean() for part in parts])
    weight = np.array([len(part) for part in parts], np.float64)
    # Bins of one and the same score, where many scores are equal, are one bin.
    same = np.append(True, np.diff(x) > 0).cumsum() - 1
    x, y, weight = _merge(x, y, weight, same)
    blocks = isotonic_regression(y, weights=weight).blocks
    x, y, _ = _merge(x, y, weight, np.repeat(np.arange(len(blocks) - 1), np.diff(blocks)))
    return Rising(x, y)


def _merge(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, into: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted means of x and y, and the weight, of the entries that go `into` each place."""
    total = np.bincount(into, weight)
    return np.bincount(into, weight * x) / total, np.bincount(into, weight * y) / total, total
