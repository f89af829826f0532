"""Between films and the picture that the network reads: fitted into it with their proportions kept, black around.

film 1340 x 1671, stored 512 x 640          picture 256 x 256
+----------+                                +--+--------+--+
|          |   ->  as large as it fits  ->  |  |  film  |  |
+----------+                                +--+--------+--+
"""

from __future__ import annotations

import numpy as np

from stages.core.data import geometry


def to_pictures(
    stored: np.ndarray, sizes_raw: np.ndarray, size: geometry.Size
) -> tuple[np.ndarray, np.ndarray]:
    """Stored films (N, H, W) uint8 as pictures of `size`.

    Args:
        sizes_raw: (N, 2) width, height of the films as they came, which give the proportions.
    Returns:
        pictures: (N, *size) uint8.
        maps: (N, 2, 3) from px of the stored film to px of its picture.
    """
    pictures = np.zeros((len(stored), *size), np.uint8)
    maps = np.empty((len(stored), 2, 3))
    for i, (film, (width, height)) in enumerate(zip(stored, sizes_raw, strict=True)):
        scale = min(size[0] / height, size[1] / width)
        inner = max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        pictures[i, top : top + inner[0], left : left + inner[1]] = geometry.resize(np.asarray(film), inner)
        maps[i] = geometry.resize_matrix((film.shape[0], film.shape[1]), inner)
        maps[i, :, 2] += left, top
    return pictures, maps


def apply_each(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, K, 2) of each film by its own map (N, 2, 3)."""
    return np.stack([geometry.apply(m, p) for m, p in zip(maps, points, strict=True)])


def invert_each(maps: np.ndarray) -> np.ndarray:
    return np.stack([geometry.invert(m) for m in maps])


def scales(maps: np.ndarray) -> np.ndarray:
    """(N,) by how much each map enlarges lengths, the two axes' geometric mean."""
    return np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])))
