"""From a guess of the points to a canonical crop: every film turned, scaled and moved as the mean shape lies.

A first guess tells where the lungs lie, how large and how tilted they are. Undoing that leaves a second model
with what varies less: on the labels, four to six numbers of the pose hold most of the variance.

    film, model px  --maps-->  crop of `side` px in which the guess's axis and widths are the mean shape's

All maps are affine (N, 2, 3) on points in px, as in core.data.geometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.chest.raw.structure import axis_frame
from stages.core.data import geometry


@dataclass(frozen=True)
class Canonical:
    """Where the mean shape lies in a crop.

    Attributes:
        shape: (15, 2) in px of the crop.
        side: of the square crop, px.
    """

    shape: np.ndarray
    side: int

    @classmethod
    def of(cls, shapes: np.ndarray, side: int, margin: float) -> Canonical:
        """The mean of upright shapes (N, 15, 2), stretched to fill the crop but for `margin` of its side."""
        mean = shapes.mean(0)
        low, high = mean.min(0), mean.max(0)
        edge = margin * side - 0.5
        return cls(edge + (mean - low) / (high - low) * side * (1 - 2 * margin), side)

    @property
    def size(self) -> geometry.Size:
        return (self.side, self.side)

    def maps(self, guesses: np.ndarray) -> np.ndarray:
        """Maps (N, 2, 3) that turn each guess (N, 15, 2) upright, then fit it to the shape.

        The axis L1-L2 becomes vertical; each direction then gets its own scale and shift, by least squares.
        """
        _, down, right, _ = axis_frame(guesses)
        turned = upright(guesses)
        centre, goal = turned.mean(1, keepdims=True), self.shape.mean(0)
        spread = ((turned - centre) ** 2).sum(1)
        scale = ((turned - centre) * (self.shape - goal)).sum(1) / np.maximum(spread, np.finfo(float).tiny)
        linear = scale[:, :, None] * np.stack([right, down], axis=1)
        shift = goal - scale * centre[:, 0]
        return np.concatenate([linear, shift[:, :, None]], axis=2)


def upright(shapes: np.ndarray) -> np.ndarray:
    """Shapes (N, 15, 2), each turned about the origin until its axis L1-L2 points straight down."""
    _, down, right, _ = axis_frame(shapes)
    return np.stack([(shapes * v[:, None]).sum(2) for v in (right, down)], axis=2)


def crops(images: np.ndarray, rows: np.ndarray, maps: np.ndarray, side: int) -> np.ndarray:
    """The films `rows` of images (N, H, W) uint8, each through its map (n, 2, 3): (n, side, side) uint8.

    Sampled at twice the side and averaged down, so that what is finer than the crop does not alias. Beyond
    the film a crop is black.
    """
    twice = (2 * side, 2 * side)
    finer = geometry.resize_matrix((side, side), twice)
    cut = np.empty((len(rows), side, side), np.uint8)
    for i, (row, matrix) in enumerate(zip(rows, maps, strict=True)):
        sampled = geometry.warp(np.asarray(images[row]), geometry.compose(matrix, finer), twice)
        cut[i] = geometry.resize(sampled, (side, side))
    return cut


def apply_each(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Each map (N, 2, 3) on its own points (N, K, 2)."""
    return np.einsum("nij,nkj->nki", maps[:, :, :2], points) + maps[:, None, :, 2]


def invert_each(maps: np.ndarray) -> np.ndarray:
    """The maps (N, 2, 3) back."""
    linear = np.linalg.inv(maps[:, :, :2])
    return np.concatenate([linear, -linear @ maps[:, :, 2:]], axis=2)
