"""Histograms of oriented gradients (Dalal and Triggs 2005), for many small pictures at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CLIP = 0.2  # of L2-Hys normalisation, as in the paper (section 6.4)
_TINY = 1e-6


def hog(pictures: np.ndarray, cells: Sequence[int], orientations: int) -> np.ndarray:
    """Descriptors of pictures (N, H, W) uint8: (N, D) float16, one block of columns a cell size.

    Half precision keeps a saved training set small; its rounding is far below the descriptors' own noise.

    Args:
        cells: sides of the square cells in px; each has to divide H and W.
        orientations: bins over 180 degrees; a gradient is shared between the two nearest.
    """
    height, width = pictures.shape[1:]
    for cell in cells:
        if height % cell or width % cell or min(height, width) < 2 * cell:
            raise ValueError(
                f"pictures of {height} x {width} px do not divide into cells of {cell} px, two or more a side"
            )
    chunks = np.array_split(np.arange(len(pictures)), max(1, len(pictures) // 128))
    return np.concatenate([_hog_chunk(pictures[rows], cells, orientations) for rows in chunks])


def _hog_chunk(pictures: np.ndarray, cells: Sequence[int], orientations: int) -> np.ndarray:
    magnitude, position = _gradients(pictures, orientations)
    blocks = []
    for cell in cells:
        n, rows, columns = len(pictures), pictures.shape[1] // cell, pictures.shape[2] // cell
        histogram = np.empty((n, rows, columns, orientations), np.float32)
        for bin_ in range(orientations):
            away = np.abs(position - bin_)
            share = np.clip(1 - np.minimum(away, orientations - away), 0, None)  # the bins close a circle
            votes = (magnitude * share).reshape(n, rows, cell, columns, cell)
            histogram[..., bin_] = votes.sum((2, 4))
        blocks.append(_normalised_blocks(histogram))
    return np.concatenate(blocks, axis=1).astype(np.float16)


def _gradients(pictures: np.ndarray, orientations: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude (N, H, W) and direction modulo 180 degrees in bins [0, orientations); 0 on the border."""
    grey = pictures.astype(np.float32)
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    position = (np.arctan2(down, across) % np.pi) * (orientations / np.pi)
    return np.hypot(across, down), position


def _normalised_blocks(histogram: np.ndarray) -> np.ndarray:
    """Overlapping blocks of 2 x 2 cells, each L2-normalised, clipped and normalised again: (N, D)."""
    block = np.concatenate(
        [histogram[:, :-1, :-1], histogram[:, :-1, 1:], histogram[:, 1:, :-1], histogram[:, 1:, 1:]], axis=-1
    )
    for limit in (_CLIP, np.inf):
        block = block / np.sqrt((block**2).sum(-1, keepdims=True) + _TINY)
        block = np.minimum(block, limit)
    return block.reshape(len(block), -1)
