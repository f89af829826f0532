"""The reference's pixel-wise loss and decoding at the film's size, computed from logits at stride 4.

With u the enlarged logits and t the target Gaussian, the binary cross-entropy is

    mean(softplus(u) - u t)

u t is linear in the logits: its sum is a product of the small logits with the target's small profiles. The
softplus needs u itself, but a few maps at a time, so that what the processor's cache holds is worked on and
neither u, nor t, nor their gradients exist for the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.data import geometry
from stages.spine.refining.keybot_parts import enlarge, enlarging, profiles

_MAPS_AT_ONCE = 8
"""4 MB a tensor at 512 x 256."""


def full_size_bce(
    logits: Tensor, points: Tensor, counted: Tensor, size: geometry.Size, sigma: float
) -> Tensor:
    """Mean over the counted landmarks and all pixels of the binary cross-entropy with Gaussians of height 1.

    Equal to `binary_cross_entropy_with_logits(full_size(logits, size), target)`, and differentiable once.

    Args:
        logits: (B, K, h, w).
        points: (B, K, 2) in input px; where not counted they may be NaN.
        counted: (B, K) bool.
        size: (H, W) of the films in px.
        sigma: of the target, in input px.
    """
    rows, columns = _both(logits, size)
    vertical, horizontal = profiles(points.to(logits.dtype), size, sigma)
    agreement = ((vertical @ rows).unsqueeze(-1) * logits * (horizontal @ columns).unsqueeze(-2)).sum(
        (-2, -1)
    )
    share = counted.to(logits.dtype) / (counted.sum().clamp_min(1) * size[0] * size[1])
    total: Tensor = _SoftplusOfEnlarged.apply(logits, share, rows, columns)
    return total - (agreement * share).sum()


class _SoftplusOfEnlarged(torch.autograd.Function):
    """Sum over maps of share times the sum over pixels of softplus(rows @ map @ columns.T)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, share: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        maps = logits.contiguous().flatten(0, 1)
        weight = share.flatten()
        gradient = torch.empty_like(maps)
        total = logits.new_zeros(())
        for start in range(0, len(maps), _MAPS_AT_ONCE):
            part = slice(start, start + _MAPS_AT_ONCE)
            enlarged = enlarge(maps[None, part], (len(rows), len(columns)))[0]
            total += (F.softplus(enlarged).sum((-2, -1)) * weight[part]).sum()
            slope = rows.T @ (enlarged.sigmoid_() @ columns)
            gradient[part] = slope * weight[part, None, None]
        ctx.save_for_backward(gradient.view(logits.shape))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


def locate_full_size(logits: Tensor, size: geometry.Size, window: int, sharpness: float) -> Tensor:
    """(B, K, h, w) logits -> (B, K, 2) points in input px, differentiable.

    The values of `GaussianHeatmap(stride=1).decode(full_size(logits, size))`: the highest pixel, then the
    expectation of softmax(sharpness * map) in the window around it; only that window is enlarged with gradients.
    """
    rows, columns = _both(logits, size)
    row, column = _highest(logits, rows, columns)
    reach = window // 2
    offset = torch.arange(-reach, reach + 1, device=logits.device)

    def around(centre: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        place = centre.unsqueeze(-1) + offset  # (B, K, window)
        return weights[place.clamp(0, len(weights) - 1)], (place >= 0) & (place < len(weights))

    down, row_inside = around(row, rows)  # (B, K, window, h)
    across, column_inside = around(column, columns)  # (B, K, window, w)
    patch = torch.sigmoid(down @ logits @ across.transpose(-1, -2))
    patch = patch * (row_inside.unsqueeze(-1) & column_inside.unsqueeze(-2))
    weight = torch.softmax(sharpness * patch.flatten(-2), -1).view_as(patch)
    step = offset.to(weight.dtype)
    x = column + (weight.sum(-2) * step).sum(-1)
    y = row + (weight.sum(-1) * step).sum(-1)
    return torch.stack((x, y), -1)


@torch.no_grad()
def _highest(logits: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (B, K) of each enlarged map's first highest pixel."""
    maps = logits.contiguous().flatten(0, 1)
    found = []
    for part in maps.split(_MAPS_AT_ONCE):
        enlarged = enlarge(part[None], (len(rows), len(columns)))[0]
        row = enlarged.amax(-1).argmax(-1)
        own_row = row[:, None, None].expand(-1, 1, enlarged.shape[-1])
        column = enlarged.gather(-2, own_row).squeeze(-2).argmax(-1)
        found.append(torch.stack((row, column)))
    row, column = torch.cat(found, 1).unflatten(1, logits.shape[:2])
    return row, column


def _both(logits: Tensor, size: geometry.Size) -> tuple[Tensor, Tensor]:
    height, width = logits.shape[-2:]
    return enlarging(size[0], height, logits), enlarging(size[1], width, logits)
