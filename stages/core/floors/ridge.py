"""Ridge regression in its dual form, with a linear or a Gaussian kernel: few films, many features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KernelRidge:
    """A fitted regression from features (N, D) to targets (N, T).

    Attributes:
        features: (n, D) float16, what it was fitted on.
        weights: (n, T) dual coefficients.
        offset: (T,) mean target.
        width: of the Gaussian kernel exp(-d^2 / 2 width^2), in the features' unit; None for a linear kernel.
    """

    features: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    width: float | None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) -> targets (N, T), float64."""
        return self.from_kernel(kernel(features, self.features, self.width))

    def from_kernel(self, values: np.ndarray) -> np.ndarray:
        """`predict` from the kernel (N, n) between the films in question and those fitted on."""
        return values @ self.weights + self.offset


def fit_ridges(
    features: np.ndarray, targets: np.ndarray, width: float | None, penalties: Sequence[float]
) -> Iterator[KernelRidge]:
    """One regression a penalty, in order; the kernel is computed once.

    `penalties` are relative to the kernel's mean diagonal, so that they mean the same for any features.
    """
    from scipy.linalg import cho_factor, cho_solve

    gram = kernel(features, features, width)
    offset = targets.mean(0)
    ridge = np.eye(len(gram)) * np.diag(gram).mean()
    for penalty in penalties:
        factor = cho_factor(gram + penalty * ridge, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, targets - offset)
        yield KernelRidge(features, weights, offset, width)


def kernel(a: np.ndarray, b: np.ndarray, width: float | None) -> np.ndarray:
    """(N, D) and (n, D) -> (N, n) float64: inner products, or a Gaussian of the distance."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    product = (a @ b.T).astype(np.float64)
    if width is None:
        return product
    square = _square_norms(a)[:, None] + _square_norms(b) - 2 * product
    return np.exp(-np.clip(square, 0, None) / (2 * width**2))


def typical_distance(features: np.ndarray) -> float:
    """Root mean square distance between two rows, the natural unit of a kernel's width."""
    features = features.astype(np.float32)
    spread = _square_norms(features).mean() - (features.mean(0, dtype=np.float64) ** 2).sum()
    return float(np.sqrt(2 * spread))


def _square_norms(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
