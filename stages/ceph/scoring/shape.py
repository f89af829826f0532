"""A point against the others: how far it lies from where the rest of the film says that it should be.

Each landmark has its own leave-one-out model: the film is laid on the mean shape by its other landmarks
(similarity, Procrustes), ridge regression says from them where the landmark lies, and the distance to that
place is measured in the deviations that labelled films show there (Mahalanobis).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.core.errors import StageError

LEAST_SHAPES = 8
PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Of ridge regression, relative to the mean variance of its inputs; the best leave-one-out error decides."""
ROUNDS = 5
"""of aligning shapes to their mean; it moves by less than rounding after three."""


@dataclass(frozen=True)
class ShapePrior:
    """What labelled films say of each landmark, in units of the mean shape's radius.

    Attributes:
        mean: (K, 2), its centre at the origin and its root mean square radius 1.
        weights: (K, 2 (K - 1), 2) from the others' deviations to the landmark's own.
        precision: (K, 2, 2) inverse covariance of what is left, measured on films left out.
    """

    mean: np.ndarray
    weights: np.ndarray
    precision: np.ndarray

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Points (N, K, 2) of any frame with square pixels -> (N, K) Mahalanobis distances.

        A point far from its place also pulls at where the others are expected. They are judged as if each film's
        farthest point were in its place.
        """
        found, places = self._judged(points)
        films, farthest = np.arange(len(points)), found.argmax(1)
        mended = np.array(points, np.float64)
        mended[films, farthest] = places[films, farthest]
        judged = self._judged(mended)[0]
        judged[films, farthest] = found[films, farthest]
        return judged

    def _judged(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (N, K), and where the others say that each point lies (N, K, 2), in the points' frame."""
        found, places = np.empty(points.shape[:2]), np.empty(points.shape)
        for k in range(len(self.mean)):
            others, own = deviations(points, self.mean, k)
            left = own - others @ self.weights[k]
            found[:, k] = np.sqrt(np.einsum("ni,ij,nj->n", left, self.precision[k], left))
            factor = similarity(points, self.mean, np.delete(np.arange(len(self.mean)), k))
            back = _complex(left) / factor
            places[:, k] = points[:, k] - np.stack([back.real, back.imag], -1)
        return found, places


def fit_shape_prior(shapes: np.ndarray) -> ShapePrior:
    """From labels (M, K, 2) of a frame with square pixels, without missing points.

    Raises:
        StageError: fewer than `LEAST_SHAPES` shapes.
    """
    if len(shapes) < LEAST_SHAPES:
        raise StageError(
            f"a shape prior needs {LEAST_SHAPES} films with all landmarks labelled, got {len(shapes)}: "
            "add labelled films to the training set"
        )
    mean = mean_shape(shapes)
    weights, precision = [], []
    for k in range(shapes.shape[1]):
        others, own = deviations(shapes, mean, k)
        fits = [_ridge(others, own, penalty) for penalty in PENALTIES]
        best, left = min(fits, key=lambda fit: float((fit[1] ** 2).sum()))
        covariance = left.T @ left / len(left)
        # Shapes that agree exactly have no covariance to invert; no labelled point is known to 1e-4 of the radius.
        covariance[np.diag_indices(2)] += 1e-8
        weights.append(best)
        precision.append(np.linalg.inv(covariance))
    return ShapePrior(mean, np.stack(weights), np.stack(precision))


def mean_shape(shapes: np.ndarray) -> np.ndarray:
    """(M, K, 2) -> (K, 2) mean after alignment (generalised Procrustes; Gower 1975), radius 1 about the origin."""
    mean = _normalised(shapes[0])
    for _ in range(ROUNDS):
        mean = _normalised(align(shapes, mean, np.arange(len(mean))).mean(0))
    return mean


def align(shapes: np.ndarray, mean: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Shapes (N, K, 2) turned, scaled and shifted so that the points `by` (indices) lie nearest those of `mean`."""
    centre = shapes[:, by].mean(1, keepdims=True)
    turned = _complex(shapes - centre) * similarity(shapes, mean, by)[:, None]
    return np.stack([turned.real, turned.imag], -1) + mean[by].mean(0)


def similarity(shapes: np.ndarray, mean: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(N,) the turn and scale of `align`, as complex numbers that a difference x + iy is multiplied by."""
    numbers = _complex(shapes[:, by] - shapes[:, by].mean(1, keepdims=True))
    target = _complex(mean[by] - mean[by].mean(0))
    return (numbers.conj() * target).sum(1) / np.maximum((np.abs(numbers) ** 2).sum(1), 1e-12)


def deviations(shapes: np.ndarray, mean: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from `mean` after alignment by all landmarks but k: the others' (N, 2 (K - 1)), k's own (N, 2)."""
    by = np.delete(np.arange(len(mean)), k)
    apart = align(shapes, mean, by) - mean
    return apart[:, by].reshape(len(shapes), -1), apart[:, k]


def _ridge(inputs: np.ndarray, outputs: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, 2), and the residuals (M, 2) that each row leaves when it is not in the fit."""
    square = inputs.T @ inputs
    strength = penalty * max(np.trace(square) / len(square), 1e-12)
    solved = np.linalg.solve(square + strength * np.eye(len(square)), inputs.T)
    leverage = np.einsum("md,dm->m", inputs, solved)
    left = outputs - inputs @ (solved @ outputs)
    return solved @ outputs, left / np.maximum(1 - leverage, 1e-6)[:, None]


def _normalised(shape: np.ndarray) -> np.ndarray:
    centred = np.asarray(shape, np.float64) - shape.mean(0)
    return centred / np.sqrt((centred**2).sum(1).mean())


def _complex(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    return points[..., 0] + 1j * points[..., 1]
