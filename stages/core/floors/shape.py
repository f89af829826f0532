"""What the labels alone know: the mean shape, and the few directions in which shapes vary.

Shapes are landmarks (N, K, 2) of one frame; a film set's shapes are compared in model px, where every film
has the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ShapeModel:
    """Principal components of shapes (active shape models: Cootes 1995).

    Attributes:
        mean: (K, 2).
        components: (M, 2 K), orthonormal rows, x0, y0, x1, ...
    """

    mean: np.ndarray
    components: np.ndarray

    def coefficients(self, shapes: np.ndarray) -> np.ndarray:
        """Shapes (N, K, 2) -> (N, M)."""
        return (shapes - self.mean).reshape(len(shapes), -1) @ self.components.T

    def shapes(self, coefficients: np.ndarray) -> np.ndarray:
        """Coefficients (N, M) -> shapes (N, K, 2)."""
        return self.mean + (coefficients @ self.components).reshape(len(coefficients), *self.mean.shape)

    def project(self, shapes: np.ndarray) -> np.ndarray:
        """The nearest shapes that the model can make.

        Of the labels themselves this is the model's bound: what a perfect choice of coefficients would reach.
        """
        return self.shapes(self.coefficients(shapes))


def fit_shape_model(shapes: np.ndarray, variance: float) -> ShapeModel:
    """The fewest principal components of (N, K, 2) that hold this share of the variance."""
    if len(shapes) < 2:
        raise ValueError(f"a shape model needs at least two shapes, got {len(shapes)}")
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be a share in (0, 1], got {variance}")
    mean = shapes.mean(0)
    _, scales, directions = np.linalg.svd((shapes - mean).reshape(len(shapes), -1), full_matrices=False)
    held = np.cumsum(scales**2) / max((scales**2).sum(), np.finfo(float).tiny)
    # Rounding may leave the last sum a hair under 1.
    count = min(int(np.searchsorted(held, variance - 1e-9)) + 1, len(scales))
    return ShapeModel(mean, directions[:count])
