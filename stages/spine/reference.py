"""How the public KeyBot code draws and reads heatmaps: a film at a time. For comparison only.

Same values as `GaussianHeatmap` of stages/core/model/codecs.py, at the reference's cost: drawing builds a
grid of coordinates anew for every film and each of its landmarks; reading picks a patch for every pair of
landmarks in the batch and keeps the diagonal, so that memory grows with the square of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode_film_by_film(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(B, K, 2) points in model px -> (B, K, H, W) Gaussians of height 1."""
    films = []
    for film in points:
        rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        grid = torch.stack((columns, rows), -1).float().expand(len(film), *size, 2)
        square = ((grid - film[:, None, None]) ** 2).sum(-1)
        films.append(torch.exp(-square / (2 * sigma**2)))
    return torch.stack(films)


def decode_all_pairs(maps: Tensor, window: int, sharpness: float) -> Tensor:
    """(B, K, H, W) maps in [0, 1] -> (B, K, 2) points in model px, window by window."""
    batch, count, _, width = maps.shape
    reach = window // 2
    flat = maps.reshape(batch * count, *maps.shape[-2:])
    highest = flat.flatten(1).argmax(1)
    row, column = highest // width, highest % width
    padded = torch.nn.functional.pad(flat, (reach, reach, reach, reach))
    offset = torch.arange(window)
    rows = (row[:, None] + offset)[:, :, None].expand(-1, -1, window)
    columns = (column[:, None] + offset)[:, None, :].expand(-1, window, -1)
    every = padded[:, rows, columns]  # (B K, B K, window, window): each map at the place of each landmark
    patch = every.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
    weight = torch.softmax(sharpness * patch.flatten(1), 1).view_as(patch)
    step = (offset - reach).float()
    x = column + (weight.sum(1) * step).sum(1)
    y = row + (weight.sum(2) * step).sum(1)
    return torch.stack((x, y), -1).view(batch, count, 2)
