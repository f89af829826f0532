"""What a point that is known for sure says about the others: errors of neighbouring points go together.

A Refiner that has slipped by one vertebra is wrong at all points in the same way. The covariance of errors on
films that it had not seen (out of fold) says how the error at one point continues at the others; given the
errors at the hinted points, the rest follows as the conditional mean of a Gaussian (kriging).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Propagation:
    """How errors go together.

    Attributes:
        covariance: (2K, 2K) of errors x0, y0, x1, ... in model px.
        noise: deviation of a hint, model px.
        reach: a hint further from the answer without hints than so many deviations of its point's error, in x
            or in y, says nothing about other points: more likely it names the wrong point.
    """

    covariance: np.ndarray
    noise: float
    reach: float

    @classmethod
    def fit(cls, predicted: np.ndarray, truth: np.ndarray, noise: float, reach: float) -> Propagation:
        """From out-of-fold predictions and labels (N, K, 2) in model px; shrunk, as there are few films.

        Errors are taken about 0, not about their mean: a Refiner without bias is the assumption.
        """
        from sklearn.covariance import LedoitWolf

        errors = (predicted - truth).reshape(len(truth), -1)
        return cls(LedoitWolf(assume_centered=True).fit(errors).covariance_, noise, reach)

    def apply(self, points: np.ndarray, hints: np.ndarray) -> np.ndarray:
        """Points (N, K, 2) corrected by hints (N, K, 2; NaN where there is none), both in model px.

        A film without hints stays as it is, and so does one whose hinted points lie on their hints.
        """
        corrected = np.array(points, np.float64)
        for i, own in enumerate(hints):
            known = np.flatnonzero(np.isfinite(own).ravel())
            if not len(known):
                continue
            off = (points[i] - own).ravel()[known]
            inner = self.covariance[np.ix_(known, known)] + self.noise**2 * np.eye(len(known))
            corrected[i] -= (self.covariance[:, known] @ np.linalg.solve(inner, off)).reshape(-1, 2)
        return corrected

    def believable(self, first: np.ndarray, hints: np.ndarray) -> np.ndarray:
        """Hints (N, K, 2) without those beyond reach of the answer without hints `first` (N, K, 2); NaN there."""
        deviation = np.sqrt(np.diag(self.covariance)).reshape(-1, 2)
        far = np.abs(hints - first) > self.reach * deviation + self.noise
        return np.where(far.any(-1, keepdims=True), np.nan, hints)
