"""Losses of points in px at 224."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.chest.raw.structure import shape_from_structure, structure_from_shape
from stages.chest.regressor.loss import (
    asymmetries,
    build_losses,
    distance_loss,
    line_symmetry_loss,
    mirror_distances,
    mse_loss,
    relative_symmetry_loss,
    wing_loss,
)
from stages.chest.regressor.settings import LOSSES, Symmetry, Wing
from stages.chest.schema import CHEST

from .shapes import moved, random_shapes, symmetric_shapes

WIDTH, CURVATURE = 10.0, 2.0
WING = Wing(width_px224=WIDTH, curvature_px224=CURVATURE)
LINE, RELATIVE = Symmetry(form="line", quantile=0.9), Symmetry(form="relative", quantile=0.9)
NOTHING_FREE = torch.zeros(5, dtype=torch.float64)
seeds = st.integers(0, 2**32 - 1)


def at(error: float) -> float:
    return float(wing_loss(torch.tensor([error], dtype=torch.float64), WIDTH, CURVATURE))


def test_wing_is_continuous_where_the_two_branches_meet():
    assert at(WIDTH - 1e-9) == pytest.approx(at(WIDTH), abs=1e-7)
    assert at(WIDTH) == pytest.approx(WIDTH * math.log(1 + WIDTH / CURVATURE))


@pytest.mark.parametrize(
    ("error", "slope"), [(0.0, WIDTH / CURVATURE), (WIDTH - 1e-6, WIDTH / (WIDTH + CURVATURE)), (25.0, 1.0)]
)
def test_wing_s_slope_in_px(error, slope):
    d = torch.tensor([error], dtype=torch.float64)
    step = 1e-7
    assert (at(float(d) + step) - at(float(d))) / step == pytest.approx(slope, rel=1e-3)


def test_wing_is_symmetric_and_zero_only_at_zero():
    assert at(0.0) == 0.0
    assert at(-3.0) == at(3.0) > 0


def test_wing_is_a_mean_over_all_coordinates():
    assert float(wing_loss(torch.tensor([[3.0, 0.0], [0.0, 3.0]]), WIDTH, CURVATURE)) == pytest.approx(
        at(3.0) / 2
    )


@given(seeds, st.floats(-180, 180), st.floats(0.3, 3))
def test_line_symmetry_is_zero_on_any_turned_symmetric_shape(seed: int, degrees: float, scale: float):
    shapes = moved(symmetric_shapes(seed), degrees, scale, (13.0, -40.0))
    assert float(line_symmetry_loss(shapes, shapes, NOTHING_FREE)) < 1e-9


def test_line_symmetry_tells_by_how_much_a_point_is_off():
    shapes = symmetric_shapes(3)
    shapes[:, CHEST.pairs[2][1], 0] += 4.0
    assert float(line_symmetry_loss(shapes, shapes, NOTHING_FREE)) == pytest.approx(4.0 / 5, abs=0.02)
    free = torch.full((5,), 3.0, dtype=torch.float64)
    assert float(line_symmetry_loss(shapes, shapes, free)) == pytest.approx(1.0 / 5, abs=0.02)


@given(seeds)
def test_mirror_distances_are_those_of_points_reflected_about_the_axis(seed: int):
    shapes = random_shapes(seed)
    top, axis = shapes[:, :1], shapes[:, 1:2] - shapes[:, :1]
    along = ((shapes - top) * axis).sum(2, keepdim=True) / axis.square().sum(2, keepdim=True)
    foot = top + along * axis
    image = 2 * foot - shapes
    left, right = ([pair[side] for pair in CHEST.pairs] for side in (0, 1))
    torch.testing.assert_close(mirror_distances(shapes), (shapes[:, right] - image[:, left]).norm(dim=2))


@given(seeds, st.floats(-40, 40), st.floats(-40, 40))
def test_relative_symmetry_and_distance_are_zero_on_the_truth_however_it_is_moved(
    seed: int, first: float, second: float
):
    truth = random_shapes(seed)
    for degrees, shift in ((first, (30.0, 2.0)), (second, (-5.0, 60.0))):
        predicted = moved(truth, degrees, 1.0, shift)
        assert float(relative_symmetry_loss(predicted, truth)) < 1e-9
        assert float(distance_loss(predicted, truth)) < 1e-9


def test_relative_symmetry_costs_where_an_asymmetric_label_is_answered_symmetrically():
    """A narrower left side of the label, answered by its symmetric mean: the asymmetry is missed whole."""
    top, bottom = np.array([[100.0, 40.0]]), np.array([[110.0, 180.0]])
    left, right = np.full((1, 5), 30.0), np.full((1, 5), 36.0)
    truth = torch.from_numpy(shape_from_structure(top, bottom, left, right))
    middle = (left + right) / 2
    predicted = torch.from_numpy(shape_from_structure(top, bottom, middle, middle))
    assert float(relative_symmetry_loss(predicted, truth)) == pytest.approx(6.0)
    torch.testing.assert_close(asymmetries(truth), torch.full((1, 5), -6.0, dtype=torch.float64))


@given(seeds)
def test_asymmetries_are_differences_of_the_offsets_that_structure_has(seed: int):
    shapes = random_shapes(seed)
    _, _, left, right = structure_from_shape(shapes.numpy())
    np.testing.assert_allclose(asymmetries(shapes).numpy(), left - right, atol=1e-9)


def test_distance_grows_with_the_scale_of_a_shape():
    truth = random_shapes(1)
    larger = moved(truth, 0.0, 1.1, (0.0, 0.0))
    pairs = [(truth[:, a] - truth[:, b]).norm(dim=1) for a, b in ((0, 1), (8, 9), (2, 3), (4, 5), (6, 7))]
    assert float(distance_loss(larger, truth)) == pytest.approx(0.1 * float(torch.stack(pairs).mean()))


@pytest.mark.parametrize("symmetry", [LINE, RELATIVE])
def test_every_known_loss_is_built_and_finite_with_its_gradient(symmetry: Symmetry):
    labels = random_shapes(5, 20)
    losses = build_losses(WING, symmetry, labels)
    assert tuple(losses) == LOSSES
    for name, loss in losses.items():
        for predicted in (labels + 3.0 * torch.randn_like(labels), torch.full_like(labels, 112.0)):
            predicted.requires_grad_()
            value: Tensor = loss(predicted, labels)
            value.backward()
            assert value.ndim == 0
            assert torch.isfinite(value), name
            assert torch.isfinite(predicted.grad).all(), name


def test_line_symmetry_lets_the_labels_usual_asymmetry_go():
    """Nine tenths of the training labels cost nothing for any one pair."""
    labels = random_shapes(6, 50)
    loss = build_losses(WING, LINE, labels)["symmetry"]
    free = torch.quantile(mirror_distances(labels), 0.9, dim=0)
    inside = (mirror_distances(labels) <= free).all(1)
    assert 0.5 < inside.double().mean() < 1
    assert float(loss(labels[inside], labels[inside])) == 0
    assert float(loss(labels[~inside], labels[~inside])) > 0


def test_mse_is_in_squared_px():
    truth = random_shapes(2)
    assert float(mse_loss(truth + 2.0, truth)) == pytest.approx(4.0)
