"""How far off a point probably is, from what its map looks like: the calibrated expected error.

The mean error is log-linear in the map's spread and peak, with a factor for each landmark (Poisson regression,
whose fitted errors have the mean of the actual ones). It is fitted on films that the network has not learned
from; landmarks' factors are shrunk to 1, since a few dozen films say little about one landmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FLOOR_PX = 1e-3
"""Spreads and peaks below this are taken as this before their logarithm."""
SHRINKAGE = 2.0
"""Penalty on a landmark's log factor, in errors of typical size: a landmark with so many labelled films is
trusted by half."""
BINS = 5


@dataclass(frozen=True)
class ExpectedError:
    """Expected radial errors in model px of the store that the network was trained from.

    Attributes:
        intercept, on_spread, on_peak: of the logarithm.
        by_landmark: (K,) added to it.
        greatest: model px; no expected error is above it.
    """

    intercept: float
    on_spread: float
    on_peak: float
    by_landmark: np.ndarray
    greatest: float

    def of(self, spread: np.ndarray, peak: np.ndarray) -> np.ndarray:
        """(N, K) spreads in model px and peaks -> (N, K) expected errors in model px."""
        told = _features(spread, peak) @ np.array([self.on_spread, self.on_peak])
        return np.minimum(np.exp(self.intercept + told + self.by_landmark), self.greatest)

    @classmethod
    def fit(cls, spread: np.ndarray, peak: np.ndarray, errors: np.ndarray) -> ExpectedError:
        """From films that were not trained on.

        Args:
            spread, peak, errors: (N, K) each; errors in model px, NaN where a point has no label.

        A wider map never means a smaller error: a coefficient of the wrong sign is left out.
        """
        known = np.isfinite(errors)
        if not known.any() or not np.nansum(errors) > 0:
            return cls(float(np.log(FLOOR_PX)), 0.0, 0.0, np.zeros(errors.shape[1]), FLOOR_PX)
        used = [0, 1]
        while True:
            slopes, intercept, factors = _poisson(_features(spread, peak)[..., used], errors, known)
            wrong = [
                u for u, s, sign in zip(used, slopes, [(1, -1)[u] for u in used], strict=True) if s * sign < 0
            ]
            if not wrong:
                break
            used = [u for u in used if u not in wrong]
        both = dict(zip(used, slopes, strict=True))
        return cls(intercept, both.get(0, 0.0), both.get(1, 0.0), factors, float(2 * np.nanmax(errors)))

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "coefficients": np.array([self.intercept, self.on_spread, self.on_peak, self.greatest]),
            "by_landmark": self.by_landmark,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ExpectedError:
        intercept, on_spread, on_peak, greatest = (float(v) for v in arrays["coefficients"])
        return cls(intercept, on_spread, on_peak, np.asarray(arrays["by_landmark"]), greatest)


def cross_fitted(spread: np.ndarray, peak: np.ndarray, errors: np.ndarray, folds: int) -> np.ndarray:
    """(N, K) expected errors of films, each by a fit to the films of the other folds; NaN for a lone film."""
    expected = np.full(errors.shape, np.nan)
    fold = np.arange(len(errors)) % folds
    for k in range(min(folds, len(errors))):
        out = fold == k
        if (~out).any():
            fitted = ExpectedError.fit(spread[~out], peak[~out], errors[~out])
            expected[out] = fitted.of(spread[out], peak[out])
    return expected


def reliability(expected: np.ndarray, errors: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Expected beside actual errors of labelled points, in `bins` groups of rising expected error.

    Returns:
        For each group: n, mean `expected` and mean `actual`, in the unit of the arguments.
    """
    known = np.isfinite(errors) & np.isfinite(expected)
    order = np.argsort(expected[known], kind="stable")
    parts = np.array_split(order, bins)
    return [
        {
            "n": len(part),
            "expected": float(expected[known][part].mean()),
            "actual": float(errors[known][part].mean()),
        }
        for part in parts
        if len(part)
    ]


def calibration_error(table: list[dict[str, float]]) -> float:
    """Mean over points of |mean expected - mean actual| of their group of `reliability`; NaN for no points."""
    n = sum(row["n"] for row in table)
    return sum(row["n"] * abs(row["expected"] - row["actual"]) for row in table) / n if n else float("nan")


def rank_agreement(expected: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation over labelled points; NaN where one of the two does not vary."""
    from scipy.stats import spearmanr

    known = np.isfinite(errors) & np.isfinite(expected)
    a, b = expected[known], errors[known]
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    return float(spearmanr(a, b).statistic)


def _features(spread: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """(N, K) each -> (N, K, 2) logarithms."""
    return np.log(np.maximum(np.stack([spread, peak], -1), FLOOR_PX))


def _poisson(
    features: np.ndarray, errors: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Slopes (F,), intercept and landmark offsets (K,) of the logarithm of the mean error.

    Newton steps on the penalised likelihood of a Poisson regression; the penalty is on the offsets alone.
    """
    n_points, n_features = errors.shape[1], features.shape[-1]
    landmark = np.broadcast_to(np.eye(n_points), (*errors.shape, n_points))
    one = np.ones((*errors.shape, 1))
    design = np.concatenate([one, features, landmark], -1)[known]  # (M, 1 + F + K)
    scale = errors[known].mean()
    target = errors[known] / scale
    penalty = np.diag(np.r_[0.0, np.full(n_features, 1e-6), np.full(n_points, SHRINKAGE)])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        mean = np.exp(np.clip(design @ weights, -20, 20))
        gradient = design.T @ (target - mean) - penalty @ weights
        curvature = (design * mean[:, None]).T @ design + penalty
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slopes = weights[1 : 1 + n_features]
    return slopes, float(weights[0] + np.log(scale)), weights[1 + n_features :]
