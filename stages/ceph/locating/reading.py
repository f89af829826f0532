"""A network's maps: what they are trained towards, and how points are read from them.

Maps of either kind become distributions over the cells, so that whoever asks for a probability gets one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.ceph.locating.settings import Network
from stages.core.data import geometry
from stages.core.model import landmark_loss as losses
from stages.core.model.codecs import GaussianHeatmap, SoftmaxHeatmap

REACH_SIGMAS = 3.0
"""A point is read from the cells within this many deviations of the target about the highest one."""
SHARPNESS = 10.0
"""of the softmax over a window of gaussian maps"""
PEAK_WEIGHT = 100.0
"""How much a pixel on the landmark counts in the squared error, a pixel far from it counting 1: a target is
nearly everywhere 0, and an answer of zeros has a mean squared error of 1e-4."""


@dataclass(frozen=True)
class Seen:
    """What maps say. Points (B, K, 2) in px of the input; peak (B, K), 1 for a map as sharp as its target;
    spread (B, K), deviation of the map about its mean in px of the input, per axis."""

    points: Tensor
    peak: Tensor
    spread: Tensor


class Reader:
    """Targets, losses and points of the maps of one network for films of `size`."""

    def __init__(self, built: Network, size: geometry.Size) -> None:
        self.built, self.size = built, size
        self.codec: SoftmaxHeatmap | GaussianHeatmap
        self.reach = max(1, round(REACH_SIGMAS * built.sigma / built.stride))
        if built.maps == "softmax":
            self.codec = SoftmaxHeatmap(sigma=built.sigma, stride=built.stride)
        else:
            self.codec = GaussianHeatmap(
                sigma=built.sigma, stride=built.stride, window=2 * self.reach + 1, sharpness=SHARPNESS
            )

    def losses(self, output: Tensor, truth: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every loss by name.

        Args:
            output: (B, K, h, w) maps before their activation.
            truth: (B, K, 2) in px of the input; NaN where there is no label.
            weight: (B, K) >= 0; a landmark of weight 0 teaches nothing.
        """
        counted = weight * losses.inside(truth, self.size)
        target = self.codec.encode(truth, self.size)
        if isinstance(self.codec, GaussianHeatmap):
            return {"mse": weighted_mse(self.codec.activate(output), target, counted)}
        return {
            "cross_entropy": losses.cross_entropy(output, target, counted),
            "l1_cells": losses.l1(self.codec.decode(output), truth, counted) / self.built.stride,
        }

    def distributions(self, output: Tensor) -> Tensor:
        """Maps (B, K, h, w) >= 0 that sum to 1."""
        maps = self.codec.activate(output)
        if isinstance(self.codec, SoftmaxHeatmap):
            return maps
        # The far tail of a sigmoid is small but wide: squared, what is left is the landmark's surroundings.
        squared = maps.square()
        return squared / squared.sum((-2, -1), keepdim=True).clamp_min(1e-12)

    def read(self, output: Tensor) -> Seen:
        """Points, peaks and spreads of maps (B, K, h, w) before their activation."""
        maps = self.distributions(output)
        stride, sigma = self.built.stride, self.built.sigma / self.built.stride
        if self.built.decode == "mean":
            points = SoftmaxHeatmap(sigma=self.built.sigma, stride=stride).locate(maps)
        elif self.built.decode == "highest":
            points = _pixels(highest(maps), stride)
        elif isinstance(self.codec, GaussianHeatmap):
            points = self.codec.decode(output)
        else:
            points = _pixels(local_means(maps, self.reach), stride)
        if isinstance(self.codec, GaussianHeatmap):
            peak = self.codec.activate(output).amax((-2, -1))
        else:
            peak = (maps.amax((-2, -1)) * (2 * torch.pi * sigma**2)).clamp_max(1.0)
        return Seen(points, peak, deviation(maps) * stride)


def weighted_mse(maps: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted maps (B, K, h, w) of the squared error, its pixels weighted by their target's height."""
    emphasis = 1.0 + (PEAK_WEIGHT - 1.0) * target
    per_map = (emphasis * (maps - target).square()).mean((-2, -1))
    return (per_map * counted).sum() / counted.sum().clamp_min(1.0)


def highest(maps: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, K, 2) x, y of the highest cell, float."""
    width = maps.shape[-1]
    index = maps.flatten(-2).argmax(-1)
    return torch.stack((index % width, index // width), -1).to(maps.dtype)


def local_means(maps: Tensor, reach: int) -> Tensor:
    """(B, K, h, w) distributions -> (B, K, 2) their means, in cells, over a square about the highest cell.

    The square is moved once onto the mean that it gives, or a peak between two cells would be drawn to one.
    """
    centre = highest(maps)
    rows = torch.arange(maps.shape[-2], device=maps.device, dtype=maps.dtype)
    columns = torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    for _ in range(2):
        near_column = _window(columns, centre[..., 0], reach)  # (B, K, w)
        near_row = _window(rows, centre[..., 1], reach)  # (B, K, h)
        by_row = torch.einsum("bkhw,bkw->bkh", maps, near_column) * near_row
        by_column = torch.einsum("bkhw,bkh->bkw", maps, near_row) * near_column
        mass = by_row.sum(-1).clamp_min(1e-12)
        centre = torch.stack((by_column @ columns, by_row @ rows), -1) / mass.unsqueeze(-1)
    return centre


def deviation(maps: Tensor) -> Tensor:
    """(B, K, h, w) distributions -> (B, K) root of the mean of their variances along x and y, in cells."""
    total = torch.zeros_like(maps[..., 0, 0])
    for along in (-1, -2):
        marginal = maps.sum(along)
        cell = torch.arange(marginal.shape[-1], dtype=maps.dtype, device=maps.device)
        mean = (marginal * cell).sum(-1, keepdim=True)
        total = total + (marginal * (cell - mean) ** 2).sum(-1)
    return (total / 2).sqrt()


def _window(cells: Tensor, centre: Tensor, reach: int) -> Tensor:
    """(n) cells and (B, K) centres -> (B, K, n): 1 within `reach` cells, falling to 0 over one more."""
    return (reach + 1 - (cells - centre.unsqueeze(-1)).abs()).clamp(0.0, 1.0)


def _pixels(cells: Tensor, stride: int) -> Tensor:
    (scale, _, shift), _ = geometry.resize_matrix((1, 1), (stride, stride)).tolist()
    return cells * scale + shift
