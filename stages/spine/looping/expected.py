"""How far off a point probably is: a score that orders points by their risk, turned into an error."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

Score = Literal["detector", "spread"]


class ExpectedError(BaseModel):
    """Expected error in vertebra heights as a rising function of a score, linear between knots.

    Attributes:
        score: `detector`, the Detector's probability of being wrong; `spread`, the deviation of the Refiner's
            map about its mean in vertebra heights.
        at, heights: the knots.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    score: Score
    at: tuple[float, ...]
    heights: tuple[float, ...]

    def of(self, scores: np.ndarray) -> np.ndarray:
        """Scores of any shape -> expected errors in vertebra heights."""
        return np.interp(scores, self.at, self.heights)

    @classmethod
    def fit(cls, scores: dict[Score, np.ndarray], errors: np.ndarray) -> ExpectedError:
        """Isotonic regression on the score whose order agrees best with the errors (Spearman).

        Args:
            scores: (N, K) each.
            errors: (N, K) in vertebra heights; NaN where a point has no label.
        """
        from scipy.stats import spearmanr
        from sklearn.isotonic import IsotonicRegression

        known = np.isfinite(errors)
        varied = np.ptp(errors[known]) > 0
        agreement = {
            name: spearmanr(score[known], errors[known]).statistic
            if np.ptp(score[known]) and varied
            else -1.0
            for name, score in scores.items()
        }
        best = max(agreement, key=lambda name: (agreement[name], name))
        fitted = IsotonicRegression().fit(scores[best][known], errors[known])
        return cls(
            score=best,
            at=tuple(float(x) for x in fitted.X_thresholds_),
            heights=tuple(float(y) for y in fitted.y_thresholds_),
        )


def spread(maps: Tensor) -> np.ndarray:
    """(N, K, h, w) maps >= 0 -> (N, K) standard deviation about the mean, in cells of the map."""
    total = maps.sum((-2, -1)).clamp_min(1e-12)
    variance = torch.zeros_like(total)
    for axis, length in ((-1, maps.shape[-2]), (-2, maps.shape[-1])):
        weight = maps.sum(axis) / total.unsqueeze(-1)
        cell = torch.arange(length, dtype=maps.dtype)
        mean = (weight * cell).sum(-1, keepdim=True)
        variance = variance + (weight * (cell - mean) ** 2).sum(-1)
    return variance.sqrt().double().numpy()
