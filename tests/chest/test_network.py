"""The regressor's size, range and starting point."""

from __future__ import annotations

import pytest
import torch

from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.network import LandmarkRegressor, n_parameters

DESCRIBED = Architecture(
    film_channels=3, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2), hidden=(512, 256), dropout=0.5
)
SMALL = Architecture(film_channels=1, channels=(4, 6, 8, 10), blocks=(1, 1, 1, 1), hidden=(12,), dropout=0.2)


def test_described_form_has_the_described_parameters():
    network = LandmarkRegressor(DESCRIBED, 15)
    assert n_parameters(network.backbone) == 11_176_512
    assert n_parameters(network.head) == 401_694
    assert n_parameters(network) == 11_578_206


def test_dropout_halves_from_layer_to_layer():
    network = LandmarkRegressor(DESCRIBED, 15)
    assert [m.p for m in network.head if isinstance(m, torch.nn.Dropout)] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("size", [(48, 48), (64, 40)])
def test_points_stay_on_the_film(size):
    network = LandmarkRegressor(SMALL, 15)
    points = network(torch.rand(3, *size))
    assert points.shape == (3, 15, 2)
    assert (points >= -0.5).all()
    assert (points[..., 0] <= size[1] - 0.5).all()
    assert (points[..., 1] <= size[0] - 0.5).all()


def test_starts_near_the_given_shape():
    torch.manual_seed(0)
    network = LandmarkRegressor(SMALL, 15)
    shape = torch.rand(15, 2) * 40 + 4
    network.start_at(shape, 48, 48)
    predicted = network.eval()(torch.rand(5, 48, 48))
    assert float((predicted - shape).detach().norm(dim=-1).mean()) < 1.5


def test_an_architecture_of_three_stages_is_refused():
    with pytest.raises(ValueError, match="channels"):
        Architecture(film_channels=1, channels=(4, 6, 8), blocks=(1, 1, 1, 1), hidden=(), dropout=0.0)  # type: ignore[arg-type]
