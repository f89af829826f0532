"""What prediction does to a film before and after its networks, as operations that ONNX knows.

The counterparts of `core.data.geometry` for one film whose size is known only when the graph runs. Grey values
are whole numbers after every step, as there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.data import geometry


def resize(film: Tensor, size: geometry.Size) -> Tensor:
    """(H, W) grey values of any size -> (h, w) float32: an average where both sides shrink, else bilinear."""
    rows, columns = _cells(film[:, 0]), _cells(film[0])
    shrinks = (rows[-1] >= size[0] - 1) & (columns[-1] >= size[1] - 1)
    down, across = _weights(rows, size[0], shrinks), _weights(columns, size[1], shrinks)
    grey = down @ film.float() @ across.T
    # OpenCV rounds halves to even, but upwards where it halves both sides.
    halves = (rows[-1] == 2 * size[0] - 1) & (columns[-1] == 2 * size[1] - 1)
    return torch.where(halves, torch.floor(grey + 0.5), torch.round(grey))


def warp(film: Tensor, matrix: Tensor, size: geometry.Size) -> Tensor:
    """(h, w) float32 resampled by a map (2, 3) of its points; what comes from outside the film is black."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in size)
    place = torch.stack((columns.expand(size), rows.unsqueeze(1).expand(size)), -1)  # (h, w, 2)
    sides = torch.tensor([film.shape[1] - 1, film.shape[0] - 1], dtype=torch.float64)
    found = 2 * apply(invert(matrix), place) / sides - 1
    sampled = F.grid_sample(film[None, None], found[None].float(), align_corners=True)
    return torch.round(sampled[0, 0])


def sizes(film: Tensor) -> Tensor:
    """Of a film (H, W): float64 (2,), width and height."""
    return torch.stack((_cells(film[0])[-1], _cells(film[:, 0])[-1])) + 1


def resize_points(points: Tensor, source: Tensor | geometry.Size, target: Tensor | geometry.Size) -> Tensor:
    """Points (..., 2) of a picture to those of the same picture stretched.

    Args:
        source, target: (height, width), or (2,) width and height as `sizes` gives them.
    """
    scale = _sides(target) / _sides(source)
    return (points + 0.5) * scale - 0.5


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """A map (2, 3) on points (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: Tensor) -> Tensor:
    """The map (2, 3) back."""
    (a, b, _), (c, d, _) = matrix.unbind(0)[0].unbind(0), matrix.unbind(0)[1].unbind(0)
    linear = torch.stack((torch.stack((d, -b)), torch.stack((-c, a)))) / (a * d - b * c)
    return torch.cat((linear, -(linear @ matrix[:, 2:])), 1)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """A map (2, 3) that acts like `first`, then like `then`."""
    linear = then[:, :2] @ first
    return torch.cat((linear[:, :2], linear[:, 2:] + then[:, 2:]), 1)


def area(matrix: Tensor) -> Tensor:
    """By how much a map (2, 3) enlarges areas."""
    return (matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]).abs()


def fixed(matrix: object) -> Tensor:
    """An array that is the same for every film, float64."""
    return torch.as_tensor(matrix, dtype=torch.float64)


def _sides(size: Tensor | geometry.Size) -> Tensor:
    return size if isinstance(size, Tensor) else fixed([size[1], size[0]])


def _cells(line: Tensor) -> Tensor:
    """Numbers of the pixels of a row or column, in a form that keeps the graph open to any length."""
    return torch.cumsum(torch.ones_like(line, dtype=torch.float64), 0) - 1


def _weights(cells: Tensor, target: int, averaging: Tensor) -> Tensor:
    """(target, n) float32: what each of n pixels in a line gives to those of a line of another length."""
    scale = (cells[-1] + 1) / target
    start = torch.arange(target, dtype=torch.float64).unsqueeze(1) * scale
    covered = torch.minimum(cells + 1, start + scale) - torch.maximum(cells, start)
    place = torch.minimum((start + scale / 2 - 0.5).clamp_min(0), cells[-1])
    near = 1 - (cells - place).abs()
    return torch.where(averaging, covered / scale, near).clamp_min(0).float()

