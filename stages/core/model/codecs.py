"""Landmark codecs: coordinates to a training target, and a network's output back to coordinates.

Frame. Points are (x, y) in `model` pixels; pixel centres lie at integers (see core.data.geometry). A map of
stride s has W / s columns, and column j covers the pixels s*j .. s*j + s - 1:

    model px   -0.5   0    1    2    3   3.5  4    5    6    7   7.5      stride 4
    columns      |         0             |         1              |      centres at 1.5 and 5.5

Both codecs share four functions:

    encode(points, size) -> target   what the loss compares the network's maps with
    activate(output)     -> maps     the network's logits as maps, in the same units as the target
    locate(maps)         -> points   maps to coordinates; locate(encode(p)) is p within 0.03 px on average
    decode(output)       -> points   locate(activate(output)): what a caller wants nearly always

A missing landmark (NaN) encodes to a map of zeros; the loss has to mask it. `encode(..., out=maps)` fills an
earlier target instead of a fresh one: at full resolution most of the time goes into fresh memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stages.core.data import geometry

# Newton steps of `_tilted_centres`. Near the edge a step at least doubles the distance of the centre
# from the grid, or adds sigma^2 cells to it; 32 of them reach 1e-6 cells at any sigma from 0.5 to 8 cells.
_NEWTON_STEPS = 32
# The nearest that an encoded point comes to the outermost cell centre, in cells: on the centre itself the
# whole mass would lie in one cell, and the centre of the tilted Gaussian at infinity.
_EDGE_CELLS = 1e-3


class Codec(Protocol):
    """What a lane asks of a codec; see the module's text for the four functions."""

    stride: int

    def encode(self, points: Tensor, size: tuple[int, int], out: Tensor | None = None) -> Tensor: ...
    def activate(self, output: Tensor) -> Tensor: ...
    def locate(self, maps: Tensor) -> Tensor: ...
    def decode(self, output: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class GaussianHeatmap:
    """One Gaussian of height 1 a landmark, for a pixel-wise sigmoid (KeyBot's Refiner, arXiv 2409.03261).

    `sigma` is in model px; `stride` in model px a cell; `window` is the odd side, in cells, of the patch that
    is read around the highest cell; `sharpness` multiplies the patch before its softmax (the reference: 10).

    Near a border the patch is padded with zeros, as in the reference, so that a landmark within some
    2 sigma / sqrt(sharpness) of the film's edge is drawn inwards, by up to 2 px at sigma 7.5. A landmark
    outside the film leaves only the flank of its Gaussian, and is found at the edge.
    """

    sigma: float
    stride: int
    window: int
    sharpness: float

    def __post_init__(self) -> None:
        _require_positive(sigma=self.sigma, stride=self.stride, sharpness=self.sharpness)
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window must be an odd number of cells, got {self.window}")

    def encode(self, points: Tensor, size: tuple[int, int], out: Tensor | None = None) -> Tensor:
        """(B, K, 2) points in a film of `size` (H, W) -> (B, K, H / stride, W / stride) maps in [0, 1].

        exp(-r^2 / 2 sigma^2) is separable: a column times a row, which costs one multiplication a pixel.
        """
        rows, columns = _grid(size, self.stride)
        cells = _to_cells(_require_points(points), self.stride)
        sigma = self.sigma / self.stride
        vertical = _gaussian(cells[..., 1], rows, sigma)
        horizontal = _gaussian(cells[..., 0], columns, sigma)
        return torch.mul(vertical.unsqueeze(-1), horizontal.unsqueeze(-2), out=out)

    def activate(self, output: Tensor) -> Tensor:
        """Logits -> maps in (0, 1)."""
        return torch.sigmoid(output)

    def locate(self, maps: Tensor) -> Tensor:
        """(B, K, h, w) maps in [0, 1] -> (B, K, 2) points in model px.

        The highest cell, then the expectation of softmax(sharpness * maps) over the window around it. On a
        perfect map of sigma 7.5 the offset from the highest cell comes out 6 % short: 0.023 px on average.
        """
        height, width = _require_maps(maps).shape[-2:]
        # The first highest cell, as a flat argmax finds it, at half its cost: a maximum is vectorised.
        row = maps.amax(-1).argmax(-1)  # (B, K)
        own_row = row[..., None, None].expand(-1, -1, 1, width)
        column = maps.gather(-2, own_row).squeeze(-2).argmax(-1)

        reach = self.window // 2
        offset = torch.arange(-reach, reach + 1, device=maps.device)
        window_rows = row.unsqueeze(-1) + offset  # (B, K, window)
        window_columns = column.unsqueeze(-1) + offset
        inside = ((window_rows >= 0) & (window_rows < height)).unsqueeze(-1) & (
            (window_columns >= 0) & (window_columns < width)
        ).unsqueeze(-2)
        index = window_rows.clamp(0, height - 1).unsqueeze(-1) * width + window_columns.clamp(
            0, width - 1
        ).unsqueeze(-2)
        patch = maps.flatten(-2).gather(-1, index.flatten(-2)) * inside.flatten(-2)

        weight = torch.softmax(self.sharpness * patch, -1).unflatten(-1, (self.window, self.window))
        step = offset.to(weight.dtype)
        x = column + (weight.sum(-2) * step).sum(-1)
        y = row + (weight.sum(-1) * step).sum(-1)
        return _to_pixels(torch.stack((x, y), -1), self.stride)

    def decode(self, output: Tensor) -> Tensor:
        """(B, K, h, w) logits -> (B, K, 2) points in model px."""
        return self.locate(self.activate(output))


@dataclass(frozen=True, kw_only=True)
class SoftmaxHeatmap:
    """One distribution over the cells a landmark, for a softmax over space and a cross-entropy.

    The coordinate is the distribution's mean (integral regression: Sun 2018, arXiv 1711.08229; DSNT: Nibali
    2018, arXiv 1801.07372). `sigma` is in model px; `stride` in model px a cell.

    A Gaussian cut off by the film's edge has its mean too far inside, by up to 0.8 sigma. The target is
    therefore tilted: its centre moves out until the mean over the grid is the landmark again, so that the
    pair is exact at the border too, with a narrower target there. A mean never leaves the hull of the cell
    centres: landmarks beyond it, so also those in the outer stride / 2 px of the film, are found on the hull.
    """

    sigma: float
    stride: int

    def __post_init__(self) -> None:
        _require_positive(sigma=self.sigma, stride=self.stride)
        if self.sigma < self.stride / 2:
            raise ValueError(
                f"sigma {self.sigma} px is less than half a cell of stride {self.stride}: such a target is "
                "a single cell and cannot say where in it the landmark lies; raise sigma or lower stride"
            )

    def encode(self, points: Tensor, size: tuple[int, int], out: Tensor | None = None) -> Tensor:
        """(B, K, 2) points in a film of `size` (H, W) -> (B, K, H / stride, W / stride), summing to 1."""
        rows, columns = _grid(size, self.stride)
        cells = _to_cells(_require_points(points), self.stride)
        sigma = self.sigma / self.stride
        vertical = _distribution(cells[..., 1], rows, sigma)
        horizontal = _distribution(cells[..., 0], columns, sigma)
        return torch.mul(vertical.unsqueeze(-1), horizontal.unsqueeze(-2), out=out)

    def activate(self, output: Tensor) -> Tensor:
        """Logits -> distributions over the cells."""
        return torch.softmax(output.flatten(-2), -1).view_as(output)

    def locate(self, maps: Tensor) -> Tensor:
        """(B, K, h, w) distributions -> (B, K, 2), their means in model px."""
        height, width = _require_maps(maps).shape[-2:]
        x = maps.sum(-2) @ torch.arange(width, dtype=maps.dtype, device=maps.device)
        y = maps.sum(-1) @ torch.arange(height, dtype=maps.dtype, device=maps.device)
        return _to_pixels(torch.stack((x, y), -1), self.stride)

    def decode(self, output: Tensor) -> Tensor:
        """(B, K, h, w) logits -> (B, K, 2) points in model px; differentiable."""
        return self.locate(self.activate(output))


def _to_cells(points: Tensor, stride: int) -> Tensor:
    """Model px -> cells of a map of this stride: a resize by 1 / stride."""
    (scale, _, shift), _ = geometry.resize_matrix((stride, stride), (1, 1)).tolist()
    return points * scale + shift


def _to_pixels(cells: Tensor, stride: int) -> Tensor:
    """Cells of a map of this stride -> model px."""
    (scale, _, shift), _ = geometry.resize_matrix((1, 1), (stride, stride)).tolist()
    return cells * scale + shift


def _gaussian(centre: Tensor, count: int, sigma: float) -> Tensor:
    """(...) centres -> (..., count) exp(-(i - centre)^2 / 2 sigma^2) at cells i < count; zeros where NaN."""
    cell = torch.arange(count, dtype=centre.dtype, device=centre.device)
    return torch.exp(-((cell - centre.unsqueeze(-1)) ** 2) / (2 * sigma**2)).nan_to_num(0.0)


def _distribution(mean: Tensor, count: int, sigma: float) -> Tensor:
    """(...) means in cells -> (..., count) Gaussians cut to the grid with these means; zeros where NaN."""
    mean = mean.clamp(_EDGE_CELLS, count - 1 - _EDGE_CELLS)
    return _cut_gaussian(_tilted_centres(mean, count, sigma), count, sigma).to(mean.dtype)


def _cut_gaussian(centre: Tensor, count: int, sigma: float) -> Tensor:
    """(...) centres, also far outside -> (..., count) Gaussians summing to 1 on the grid; zeros where NaN."""
    cell = torch.arange(count, dtype=centre.dtype, device=centre.device)
    logit = -((cell - centre.unsqueeze(-1)) ** 2) / (2 * sigma**2)
    return torch.softmax(logit, -1).nan_to_num(0.0)


def _tilted_centres(mean: Tensor, count: int, sigma: float) -> Tensor:
    """Centres whose Gaussians, cut to the grid, have these means (...), in cells; float64.

    Cut Gaussians of one sigma are an exponential family in centre / sigma^2, so that the mean grows with the
    centre at the rate variance / sigma^2 and Newton's method comes in from the inside without overshooting.
    """
    centre = mean.double().clone()
    # A narrow Gaussian's mean also depends on where in its cell it lies, far from any edge: tilt them all.
    near = torch.ones_like(centre, dtype=torch.bool)
    if sigma >= 1:
        near = (mean < 6 * sigma) | (mean > count - 1 - 6 * sigma)
    wanted = mean.double()[near]
    tilted = wanted.clone()
    cell = torch.arange(count, dtype=torch.float64, device=mean.device)
    for _ in range(_NEWTON_STEPS):
        weight = _cut_gaussian(tilted, count, sigma)
        reached = weight @ cell
        variance = (weight * (cell - reached.unsqueeze(-1)) ** 2).sum(-1)
        tilted = tilted + (wanted - reached) * sigma**2 / variance.clamp_min(1e-9)
    centre[near] = tilted
    return centre


def _grid(size: tuple[int, int], stride: int) -> tuple[int, int]:
    height, width = size
    if height % stride or width % stride:
        raise ValueError(
            f"a film of {height} x {width} px does not divide into cells of {stride} px: "
            "choose a stride that divides both sides"
        )
    return height // stride, width // stride


def _require_points(points: Tensor) -> Tensor:
    if points.dim() != 3 or points.shape[-1] != 2:
        raise ValueError(f"expected points (B, K, 2), got {tuple(points.shape)}")
    return points


def _require_maps(maps: Tensor) -> Tensor:
    if maps.dim() != 4:
        raise ValueError(f"expected maps (B, K, h, w), got {tuple(maps.shape)}")
    return maps


def _require_positive(**numbers: float) -> None:
    wrong = {name: value for name, value in numbers.items() if not value > 0}
    if wrong:
        raise ValueError(f"expected numbers above 0, got {wrong}")
