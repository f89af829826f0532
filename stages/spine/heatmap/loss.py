"""Losses of the heatmap network: single-purpose functions on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, 2) points in px of films of `size` (H, W) -> (B, K) bool: on the film, and not NaN."""
    height, width = size
    x, y = points.unbind(-1)
    return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)


def cross_entropy(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted landmarks of the cross-entropy between distributions over cells.

    Args:
        logits, target: (B, K, h, w); each target map sums to 1.
        counted: (B, K) bool.
    """
    _require_same_shape(logits, target)
    log_likelihood = torch.log_softmax(logits.flatten(-2), -1)
    return _mean(-(target.flatten(-2) * log_likelihood).sum(-1), counted)


def l1(predicted: Tensor, points: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted landmarks of |dx| + |dy|, in the unit of the points (B, K, 2)."""
    _require_same_shape(predicted, points)
    return _mean((predicted - points.nan_to_num(0.0)).abs().sum(-1), counted)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of (B, K) values where counted; 0 where nothing is."""
    weight = counted.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def _require_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"expected equal shapes, got {tuple(a.shape)} and {tuple(b.shape)}")
