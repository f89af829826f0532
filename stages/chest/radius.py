"""How far off a point may be: the radius of a disc that holds the label with a stated probability.

A score orders points by their risk: a log-linear fit of the out-of-fold errors to how wide the point's maps are
and how far the first and the second answer lie apart. A landmark's radius is the score times the quantile of
error over score among all films (split conformal prediction with a normalised score: Lei 2018,
arXiv 1604.04173, section 5.2), so that each landmark is covered on average whatever the fit is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_LEAST = 0.5
"""px at 224 added to spreads and errors before the logarithm: less than a cell of the labels' grid"""


@dataclass(frozen=True)
class RadiusModel:
    """Attributes:
    coefficients: (4,) constant and slopes of log(error) on `features`.
    quantiles: (15,) of error over score, by landmark.
    coverage: probability that they stand for.
    """

    coefficients: np.ndarray
    quantiles: np.ndarray
    coverage: float

    @classmethod
    def fit(cls, features: np.ndarray, errors: np.ndarray, coverage: float) -> RadiusModel:
        """From out-of-fold features (N, 15, 3) and errors (N, 15), px at 224."""
        design = np.concatenate([np.ones((*features.shape[:2], 1)), features], axis=2)
        target = np.log(errors + _LEAST)
        coefficients, *_ = np.linalg.lstsq(design.reshape(-1, design.shape[2]), target.ravel(), rcond=None)
        ratio = errors / np.exp(design @ coefficients)
        # The finite-sample quantile of conformal prediction: one more film than there are.
        level = min(1.0, np.ceil(coverage * (len(errors) + 1)) / len(errors))
        return cls(coefficients, np.quantile(ratio, level, axis=0, method="higher"), coverage)

    def radii(self, features: np.ndarray) -> np.ndarray:
        """(N, 15, 3) -> (N, 15), px at 224."""
        design = np.concatenate([np.ones((*features.shape[:2], 1)), features], axis=2)
        return np.exp(design @ self.coefficients) * self.quantiles

    def arrays(self) -> dict[str, np.ndarray]:
        """For a table of tensors."""
        return {
            "coefficients": self.coefficients,
            "quantiles": self.quantiles,
            "coverage": np.array(self.coverage),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> RadiusModel:
        return cls(arrays["coefficients"], arrays["quantiles"], float(arrays["coverage"]))


def features(coarse_spread: np.ndarray, fine_spread: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Spreads of the two answers' maps and the distance between them, (N, 15) px at 224 -> (N, 15, 3)."""
    return np.log(np.stack([coarse_spread, fine_spread, apart], axis=2) + _LEAST)
