"""Each defect of the published code breaks the property that ours has, and its recipe breaks nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.chest.reference import RECIPES, vertical_symmetry_loss, wing_of_shares
from stages.chest.regressor.loss import asymmetries, build_losses, line_symmetry_loss, mirror_distances
from stages.chest.regressor.settings import LOSSES, Symmetry, Wing
from stages.chest.regressor.training import OURS
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.train.augment import Warps, mirror_warps

from .shapes import moved, random_shapes, symmetric_shapes

WING, SYMMETRY = Wing(width_px224=10, curvature_px224=2), Symmetry(form="relative", quantile=0.9)
SIZE = (224, 224)


def test_vertical_symmetry_is_far_from_zero_on_a_tilted_symmetric_shape():
    tilted = moved(symmetric_shapes(0), 8.0, 1.0, (0.0, 0.0))
    assert float(line_symmetry_loss(tilted, tilted, torch.zeros(5, dtype=torch.float64))) < 1e-9
    assert float(vertical_symmetry_loss(tilted, tilted)) > 5


def test_vertical_symmetry_is_zero_on_an_upright_one():
    """So that the defect above is the tilt's and not a slip in the re-creation."""
    upright = symmetric_shapes(0)
    upright[:, :2] = torch.tensor([[112.0, 30.0], [112.0, 180.0]])
    for quarter, level in zip((8, 9, 10), (0.25, 0.5, 0.75), strict=True):
        upright[:, quarter] = torch.tensor([112.0, 30 + 150 * level], dtype=torch.float64)
    for left, right in CHEST.pairs:
        upright[:, right] = upright[:, left] * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0])
    assert float(vertical_symmetry_loss(upright, upright)) < 1e-9


def test_wing_of_shares_is_proportional_to_l1_and_ours_is_not():
    truth = torch.zeros(1, 15, 2, dtype=torch.float64)
    near, far = (torch.full_like(truth, error) for error in (1.0, 40.0))
    shares = [float(wing_of_shares(predicted, truth, WING)) for predicted in (near, far)]
    assert shares[1] / shares[0] == pytest.approx(40, rel=0.05)
    ours = build_losses(WING, SYMMETRY, random_shapes(0))["wing"]
    assert float(ours(far, truth)) / float(ours(near, truth)) < 15


def test_a_mirror_without_names_puts_the_left_points_on_the_right():
    points = random_shapes(1).numpy()
    warps = mirror_warps(len(points), SIZE[1])

    def offsets(moved_points: np.ndarray) -> np.ndarray:
        """How far to the right of its partner each left point is."""
        left, right = ([pair[side] for pair in CHEST.pairs] for side in (0, 1))
        return moved_points[:, left, 0] - moved_points[:, right, 0]

    assert offsets(OURS.move(points, warps, SIZE)).max() < 0
    assert offsets(RECIPES["mirror without names"].move(points, warps, SIZE)).min() > 0


def test_clipped_points_leave_the_map_that_ours_follow():
    points = random_shapes(2).numpy()
    matrix = geometry.similarity_matrix(SIZE, 10.0, 1.0, -80.0, 0.0)
    warps = Warps(np.broadcast_to(matrix, (len(points), 2, 3)), np.zeros(len(points), bool))
    expected = geometry.apply(matrix, points)
    assert (expected < 0).any()
    np.testing.assert_allclose(OURS.move(points, warps, SIZE), expected)
    clipped = RECIPES["clipped points"].move(points, warps, SIZE)
    assert clipped.min() >= 0
    inside = ((expected >= 0) & (expected <= 223)).all(-1)
    np.testing.assert_allclose(clipped[inside], expected[inside])
    assert not np.allclose(clipped, expected)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_differs_from_ours_in_one_step_alone(name: str):
    recipe = RECIPES[name]
    assert sum(getattr(recipe, f.name) is not getattr(OURS, f.name) for f in fields(recipe)) == 1
    labels = random_shapes(3, 10)
    predicted = labels + 5.0 * torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = (r.losses(WING, SYMMETRY, labels) for r in (OURS, recipe))
    assert tuple(theirs) == LOSSES
    different = [part for part in LOSSES if ours[part](predicted, labels) != theirs[part](predicted, labels)]
    assert different == {"wing of shares": ["wing"], "vertical symmetry": ["symmetry"]}.get(name, [])


@pytest.mark.realdata
def test_the_labels_themselves_cost_what_was_measured_of_them(realdata: Path):
    """So vertical symmetry has its optimum elsewhere than at the truth; even about their own axis labels cost."""
    table = pd.read_csv(realdata / "chest_covid15" / "coordenadas" / "coordenadas_maestro.csv", header=None)
    labels = torch.from_numpy(table.iloc[:, 1:31].to_numpy(float).reshape(-1, 15, 2)) * 224 / 299
    assert float(vertical_symmetry_loss(labels, labels)) == pytest.approx(
        9.56, abs=0.3
    )  # of all 957 published labels
    assert float(mirror_distances(labels).mean()) == pytest.approx(5.34, abs=0.1)
    by_pair = asymmetries(labels).abs().mean(0)
    torch.testing.assert_close(
        by_pair.sort().values, torch.tensor([4.1, 4.1, 4.3, 5.1, 5.9], dtype=torch.float64), atol=0.2, rtol=0
    )
