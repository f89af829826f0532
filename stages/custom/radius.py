"""How far off a point may be: the radius of a disc that holds the label with a stated probability.

Split conformal prediction with a normalised score (Lei 2018, arXiv 1604.04173, section 5.2): a radius is the width
of the point's map times a quantile of error over width among films that the network has not learned from. All
landmarks share the quantile: the few val films of a small set say little of one landmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RadiusModel:
    """Attributes:
    quantile: of error over width.
    least: added to every width, so that a needle of a map promises no more than the labels hold; same px.
    coverage: probability that they stand for.
    """

    quantile: float
    least: float
    coverage: float

    @classmethod
    def fit(cls, spread: np.ndarray, errors: np.ndarray, coverage: float) -> RadiusModel:
        """From spreads and errors (N, K), one unit, of films that were not trained on; NaN errors have no label."""
        known = np.isfinite(errors)
        if not known.any():
            return cls(0.0, 0.0, coverage)
        least = max(float(np.median(spread[known])), 1e-9)
        ratio = np.sort(errors[known] / (spread[known] + least))
        level = min(1.0, np.ceil(coverage * (len(ratio) + 1)) / len(ratio))
        return cls(float(np.quantile(ratio, level, method="higher")), least, coverage)

    def radii(self, spread: np.ndarray) -> np.ndarray:
        """(N, K) spreads -> (N, K) radii, same unit."""
        return self.quantile * (spread + self.least)

    def to_array(self) -> np.ndarray:
        return np.array([self.quantile, self.least, self.coverage])

    @classmethod
    def from_array(cls, values: np.ndarray) -> RadiusModel:
        return cls(*(float(v) for v in values))
