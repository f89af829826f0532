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
    return _resized(film.float(), size[0], size[1])


def warp(film: Tensor, matrix: Tensor, size: geometry.Size) -> Tensor:
    """(h, w) float32 resampled by a map (2, 3) of its points; what comes from outside the film is black."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in size)
    place = torch.stack((columns.expand(size), rows.unsqueeze(1).expand(size)), -1)  # (h, w, 2)
    sides = torch.tensor([film.shape[1] - 1, film.shape[0] - 1], dtype=torch.float64)
    found = 2 * apply(invert(matrix), place) / sides - 1
    sampled = F.grid_sample(film[None, None], found[None].float(), align_corners=True)
    return torch.round(sampled[0, 0])


@torch.jit.script
def sizes(film: Tensor) -> Tensor:
    """Of a film (H, W): float64 (2,), width and height."""
    return torch.tensor([film.shape[1], film.shape[0]], dtype=torch.float64)


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


def _shares(n: int, target: int) -> Tensor:
    """(target, n) float32: which share of each of n pixels in a line falls on those of a shorter line."""
    cells = torch.arange(n, dtype=torch.float64)
    scale = n / target
    start = torch.arange(target, dtype=torch.float64).unsqueeze(1) * scale
    covered = torch.minimum(cells + 1, start + scale) - torch.maximum(cells, start)
    return (covered / scale).clamp_min(0.0).float()


def _neighbours(n: int, target: int, alone_at_ends: bool) -> tuple[Tensor, Tensor]:
    """(2, target) pixels of a line of n that each of another line lies between, and their weights of 11 bits."""
    place = ((torch.arange(target, dtype=torch.float64) + 0.5) * (n / target) - 0.5).float()
    first = torch.floor(place)
    share = place - first
    if (
        alone_at_ends
    ):  # columns beyond the outermost are left out, rows are repeated: other values are cut off
        share = torch.where((first < 0) | (first >= n - 1), torch.zeros_like(share), share)
    pixels = torch.stack((first, first + 1)).clamp(0.0, float(n - 1)).long()
    return pixels, torch.round(torch.stack((1 - share, share)).double() * 2048)


@torch.jit.script
def _resized(film: Tensor, height: int, width: int) -> Tensor:
    if film.shape[0] >= height and film.shape[1] >= width:
        grey = _shares(film.shape[0], height) @ film @ _shares(film.shape[1], width).T
        # OpenCV rounds halves to even, but upwards where it halves both sides.
        if film.shape[0] == 2 * height and film.shape[1] == 2 * width:
            return torch.floor(grey + 0.5)
        return torch.round(grey)
    # OpenCV's fixed point: weights of 11 bits, a sum that loses 4, products that lose 16, and 2 in the end.
    column, weight = _neighbours(film.shape[1], width, True)
    row, share = _neighbours(film.shape[0], height, False)
    grey = film.double()
    across = torch.floor((weight[0] * grey[:, column[0]] + weight[1] * grey[:, column[1]]) / 16)
    upper = torch.floor(share[0][:, None] * across[row[0]] / 65536)
    lower = torch.floor(share[1][:, None] * across[row[1]] / 65536)
    return torch.floor((upper + lower + 2) / 4).float()
