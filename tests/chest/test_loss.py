"""Wing loss in pixels."""

from __future__ import annotations

import math

import pytest
import torch

from stages.chest.regressor.loss import wing_loss

WIDTH, CURVATURE = 10.0, 2.0


def at(error: float) -> float:
    return float(wing_loss(torch.tensor([error], dtype=torch.float64), WIDTH, CURVATURE))


def test_continuous_where_the_two_branches_meet():
    assert at(WIDTH - 1e-9) == pytest.approx(at(WIDTH), abs=1e-7)
    assert at(WIDTH) == pytest.approx(WIDTH * math.log(1 + WIDTH / CURVATURE))


@pytest.mark.parametrize(
    ("error", "slope"), [(0.0, WIDTH / CURVATURE), (WIDTH - 1e-6, WIDTH / (WIDTH + CURVATURE)), (25.0, 1.0)]
)
def test_slope_in_px(error, slope):
    d = torch.tensor([error], dtype=torch.float64)
    step = 1e-7
    assert (at(float(d) + step) - at(float(d))) / step == pytest.approx(slope, rel=1e-3)


def test_symmetric_and_zero_only_at_zero():
    assert at(0.0) == 0.0
    assert at(-3.0) == at(3.0) > 0


def test_in_normalised_coordinates_the_default_width_is_plain_l1():
    """The published trap: with |d| < 1 << w the loss is 5 |d| to within a tenth."""
    errors = torch.linspace(0.01, 0.3, 30, dtype=torch.float64)
    ratio = torch.stack([wing_loss(e[None], WIDTH, CURVATURE) / e for e in errors])
    assert float(ratio.max() / ratio.min()) < 1.1


def test_mean_over_all_coordinates():
    assert float(wing_loss(torch.tensor([[3.0, 0.0], [0.0, 3.0]]), WIDTH, CURVATURE)) == pytest.approx(
        at(3.0) / 2
    )
