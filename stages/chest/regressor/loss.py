"""Losses of points in pixels at 224: each takes predicted and true points (B, 15, 2) and gives a scalar.

Wing loss (Feng et al., CVPR 2018, eq. 5) has two parameters that are lengths, so they only mean something
beside errors in the same unit. Fed with coordinates in [0, 1], the usual w = 10 is never reached and the loss
is plain L1; here all is px at 224, whatever size the network reads.

Symmetry and distance look at shapes. Both forms of symmetry are taken about the shape's own axis L1-L2, so
that a tilted patient costs nothing. Labels are not symmetric: their sides differ by 4 to 6 px at 224 in the
mean. `relative` compares with the label's own asymmetry and has its optimum at the truth; `line` is a prior
that pulls every shape whose asymmetry exceeds what it lets go, true or not. The pipeline uses `relative`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from stages.chest.regressor.settings import Symmetry, Wing
from stages.chest.schema import BOTTOM, LEFT, RIGHT, TOP

PointLoss = Callable[[Tensor, Tensor], Tensor]
DISTANCE_PAIRS = ((0, 1), (8, 9), (2, 3), (4, 5), (6, 7))
"""Axis, its second quarter, and the widths at its inner three levels."""


def build_losses(wing: Wing, symmetry: Symmetry, labels: Tensor) -> dict[str, PointLoss]:
    """Every known loss by name.

    Args:
        wing, symmetry: their parameters.
        labels: (N, 15, 2) training labels in px at 224, on the device of training.
    """
    relative = symmetry.form == "relative"
    free = torch.quantile(mirror_distances(labels), symmetry.quantile, dim=0)  # (5,)
    return {
        "mse": mse_loss,
        "wing": partial(point_wing_loss, wing=wing),
        "symmetry": relative_symmetry_loss if relative else partial(line_symmetry_loss, free_px=free),
        "distance": distance_loss,
    }


def mse_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference of coordinates."""
    return (predicted - truth).square().mean()


def point_wing_loss(predicted: Tensor, truth: Tensor, wing: Wing) -> Tensor:
    """Wing loss of points in px at 224."""
    return wing_loss(predicted - truth, wing.width_px224, wing.curvature_px224)


def wing_loss(error_px: Tensor, width_px: float, curvature_px: float) -> Tensor:
    """Mean wing loss of coordinate differences of any shape.

        w * ln(1 + |d| / e)   if |d| < w        slope w / e at 0: small errors count more than in L1
        |d| - C               else              slope 1; C makes the two meet at |d| = w

    Args:
        error_px: predicted minus true coordinates.
        width_px, curvature_px: w and e, in the unit of `error_px`.
    """
    distance = error_px.abs()
    offset = width_px - width_px * math.log1p(width_px / curvature_px)
    near = width_px * torch.log1p(distance / curvature_px)
    return torch.where(distance < width_px, near, distance - offset).mean()


def line_symmetry_loss(predicted: Tensor, truth: Tensor, free_px: Tensor) -> Tensor:
    """Mean over pairs of how much further than `free_px` (5,) the right point is from the left one's image."""
    return torch.relu(mirror_distances(predicted) - free_px).mean()


def relative_symmetry_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean over pairs of the difference between the asymmetries of prediction and label."""
    return (asymmetries(predicted) - asymmetries(truth)).abs().mean()


def distance_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean over `DISTANCE_PAIRS` of the difference between the predicted and the true distance."""
    first, second = zip(*DISTANCE_PAIRS, strict=True)
    lengths = [torch.linalg.vector_norm(pick(p, first) - pick(p, second), dim=2) for p in (predicted, truth)]
    return (lengths[0] - lengths[1]).abs().mean()


def mirror_distances(points: Tensor) -> Tensor:
    """(B, 5) distance of each right point from the left one's mirror image about the line L1-L2.

          L1
    L  .  |  . L'
          | . R          the distance between L' and R
          L2
    """
    down, right = _axes(points)
    left, other = (pick(points, side) - points[:, TOP, None] for side in (LEFT, RIGHT))
    across = ((left + other) * right).sum(2)  # the image's offset is the left one's with another sign
    along = ((left - other) * down).sum(2)
    return torch.linalg.vector_norm(torch.stack((across, along), 2), dim=2)


def asymmetries(points: Tensor) -> Tensor:
    """(B, 5) how much further from the line L1-L2 the left point of each pair is than the right one, px."""
    _, right = _axes(points)
    left, other = (((pick(points, side) - points[:, TOP, None]) * right).sum(2) for side in (LEFT, RIGHT))
    return -left - other


def pick(points: Tensor, indices: Sequence[int]) -> Tensor:
    """`points[:, indices]` (B, n, 2), without sending the indices to the device in every step."""
    return torch.stack([points[:, i] for i in indices], 1)


def _axes(points: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (B, 1, 2) down the axis L1-L2 and to the right of it."""
    axis = points[:, BOTTOM, None] - points[:, TOP, None]
    down = axis / torch.linalg.vector_norm(axis, dim=2, keepdim=True).clamp_min(1e-6)
    return down, torch.stack((down[..., 1], -down[..., 0]), 2)
