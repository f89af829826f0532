"""Shapes of fifteen points for tests, float64, in px of a film of 224 x 224."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.chest.raw.structure import shape_from_structure
from stages.core.data import geometry


def random_shapes(seed: int, n: int = 3) -> Tensor:
    """(n, 15, 2) tilted shapes whose sides differ."""
    rng = np.random.default_rng(seed)
    top, bottom = _axis(rng, n)
    return torch.from_numpy(shape_from_structure(top, bottom, *rng.uniform(20, 80, (2, n, 5))))


def symmetric_shapes(seed: int, n: int = 3) -> Tensor:
    """(n, 15, 2) tilted shapes that are their own mirror images about the axis."""
    rng = np.random.default_rng(seed)
    top, bottom = _axis(rng, n)
    widths = rng.uniform(20, 80, (n, 5))
    return torch.from_numpy(shape_from_structure(top, bottom, widths, widths))


def moved(shapes: Tensor, degrees: float, scale: float, shift: tuple[float, float]) -> Tensor:
    """Shapes turned and scaled about the film's centre, then shifted."""
    matrix = geometry.similarity_matrix((224, 224), degrees, scale, *shift)
    return torch.from_numpy(geometry.apply(matrix, shapes.numpy()))


def _axis(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    top = rng.uniform([90, 20], [130, 50], (n, 2))
    return top, top + rng.uniform([-20, 100], [20, 150], (n, 2))
