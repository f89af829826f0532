"""How films are moved, in training and in prediction: exact affine maps of films and points together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.ceph.locating.settings import FilmAugmentation, View
from stages.core.data import geometry
from stages.core.train.augment import Warps, draw_warps


def draw(
    rng: np.random.Generator, settings: FilmAugmentation, sizes_raw: np.ndarray, size: geometry.Size
) -> Warps:
    """Random maps for films of `sizes_raw` (N, 2: width, height) that are read at `size`; see `draw_warps`."""
    warps = draw_warps(rng, settings, sizes_raw, size)
    stretched = np.exp(rng.uniform(-settings.stretch, settings.stretch, len(sizes_raw)))
    for i, factor in enumerate(stretched):
        warps.matrices[i] = geometry.compose(_stretch(size, factor), warps.matrices[i])
    return warps


def fixed_views(views: Sequence[View], size: geometry.Size) -> list[np.ndarray]:
    """One (2, 3) map a view, of films read at `size`."""
    return [geometry.similarity_matrix(size, view.rotation, float(np.exp(view.log_scale))) for view in views]


def _stretch(size: geometry.Size, factor: float) -> np.ndarray:
    """Wider by `factor` and lower by it, about the centre."""
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.array([[factor, 0.0, x - factor * x], [0.0, 1 / factor, y - y / factor]])
