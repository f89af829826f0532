"""Losses of networks that give one map, or one place, a landmark: single-purpose functions on tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def distances(predicted: Tensor, points: Tensor, counted: Tensor, pairs: Tensor) -> Tensor:
    """Mean over pairs of landmarks of the absolute error of their distance (arXiv 2209.07163, morphology loss).

    Args:
        predicted, points: (B, K, 2) in shares of the film's sides.
        counted: (B, K) bool; a pair counts where both its points do.
        pairs: (P, 2) landmark indices.
    """
    _require_same_shape(predicted, points)
    found, wanted = (_length(p[:, pairs[:, 0]] - p[:, pairs[:, 1]]) for p in (predicted, _filled(points)))
    return _mean((found - wanted).abs(), counted[:, pairs].all(-1))


def angles(predicted: Tensor, points: Tensor, counted: Tensor, triplets: Tensor) -> Tensor:
    """Mean over triplets (a, b, c) of 1 - cos of the error of the angle at b (arXiv 2209.07163).

    Args:
        predicted, points: (B, K, 2) in shares of the film's sides.
        counted: (B, K) bool; a triplet counts where all its points do.
        triplets: (T, 3) landmark indices.
    """
    _require_same_shape(predicted, points)
    found, wanted = (_angle(p, triplets) for p in (predicted, _filled(points)))  # unit vectors (B, T, 2)
    return _mean(1.0 - (found * wanted).sum(-1), counted[:, triplets].all(-1))


def _angle(points: Tensor, triplets: Tensor) -> Tensor:
    """(B, T, 2) cosine and sine of the angle from b->a to b->c."""
    a, b, c = (points[:, triplets[:, i]] for i in range(3))
    u, v = a - b, c - b
    dot, cross = (u * v).sum(-1), u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    return F.normalize(torch.stack((dot, cross), -1), dim=-1, eps=1e-6)


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def _filled(points: Tensor) -> Tensor:
    return points.nan_to_num(0.0)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of (B, ...) values where counted; 0 where nothing is."""
    weight = counted.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def _require_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"expected equal shapes, got {tuple(a.shape)} and {tuple(b.shape)}")
