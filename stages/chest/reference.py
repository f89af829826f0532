"""Defects of the published training code, made anew to see what each costs. For comparison only.

`RECIPES` names them for the control runs (bench/chest_controls.py); no stage of the pipeline uses them. All
losses take points in px at 224, as those of stages/chest/regressor/loss.py do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stages.chest.regressor.loss import PointLoss, build_losses, pick, wing_loss
from stages.chest.regressor.settings import Symmetry, Wing
from stages.chest.regressor.training import Recipe, move_points
from stages.chest.schema import CHEST, REPORT_SIZE
from stages.core.data import geometry
from stages.core.train.augment import Warps

AXIS_WEIGHTS = {0: 1.2, 1: 1.2, 8: 1.5, 9: 1.3, 10: 1.3}
"""Points of the axis and how much each counts in the mean x about which shapes are mirrored."""


def wing_of_shares(predicted: Tensor, truth: Tensor, wing: Wing) -> Tensor:
    """Wing loss with parameters for px, fed with shares of the film: w is never reached, what is left is L1.

    It is 1/224 of what px would give near zero. An optimiser that normalises gradients does not see a factor.
    """
    return wing_loss((predicted - truth) / REPORT_SIZE, wing.width_px224, wing.curvature_px224)


def vertical_symmetry_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Distance of each right point from the left one's image in a vertical mirror, mean over pairs.

    The mirror stands at the weighted mean x of the axis points, so a tilted or naturally asymmetric shape costs,
    though it be the label: real labels cost more than 9 px at 224 in the mean.
    """
    weighted = torch.stack([weight * predicted[:, i, 0] for i, weight in AXIS_WEIGHTS.items()])
    middle = weighted.sum(0) / sum(AXIS_WEIGHTS.values())  # (B,)
    left, right = (pick(predicted, side) for side in zip(*CHEST.pairs, strict=True))
    image = torch.stack((2 * middle[:, None] - left[..., 0], left[..., 1]), 2)
    return torch.linalg.vector_norm(right - image, dim=2).mean()


def move_without_names(points: np.ndarray, warps: Warps, size: geometry.Size) -> np.ndarray:
    """Points (B, 15, 2) move with their films; on a mirrored one left points keep their names on the right."""
    return np.stack([geometry.apply(m, p) for m, p in zip(warps.matrices, points, strict=True)])


def move_and_clip(points: np.ndarray, warps: Warps, size: geometry.Size) -> np.ndarray:
    """As ours, then drawn onto the film (height, width): labels leave the anatomy where a map turns it away."""
    return move_points(points, warps, size).clip(0, [size[1] - 1, size[0] - 1])


def _with(
    **replaced: Callable[[Wing], PointLoss],
) -> Callable[[Wing, Symmetry, Tensor], dict[str, PointLoss]]:
    """The losses of loss.py, some of them replaced."""

    def losses(wing: Wing, symmetry: Symmetry, labels: Tensor) -> dict[str, PointLoss]:
        return build_losses(wing, symmetry, labels) | {name: make(wing) for name, make in replaced.items()}

    return losses


RECIPES = {
    "mirror without names": Recipe(move=move_without_names),
    "clipped points": Recipe(move=move_and_clip),
    "wing of shares": Recipe(losses=_with(wing=lambda wing: partial(wing_of_shares, wing=wing))),
    "vertical symmetry": Recipe(losses=_with(symmetry=lambda wing: vertical_symmetry_loss)),
}
"""defect -> a recipe of `training.train` that has it, and nothing else"""
