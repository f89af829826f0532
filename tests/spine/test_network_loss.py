"""The heatmap network's shapes and its losses."""

import math

import pytest
import torch

from stages.core.errors import StageError
from stages.spine.heatmap import loss
from stages.spine.heatmap.architecture import Architecture
from stages.spine.heatmap.network import HeatmapNetwork, as_input, n_parameters

FILM = (128, 64)


def built(**changes: object) -> Architecture:
    values = {"backbone": "hrnet_w18_small", "channels": 16, "mixer_layers": 1}
    return Architecture.model_validate(values | {"stride": 4, "sigma": 4.0, "average_mirror": True} | changes)


@pytest.mark.parametrize(("stride", "maps"), [(2, (64, 32)), (4, (32, 16)), (32, (4, 2))])
def test_maps_have_the_stride_asked_for(stride: int, maps: tuple[int, int]) -> None:
    network = HeatmapNetwork(built(stride=stride), 16, FILM).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 128, 64)).shape == (2, 16, *maps)


def test_other_backbones_of_timm_work_and_unknown_ones_are_named() -> None:
    assert n_parameters(HeatmapNetwork(built(backbone="resnet10t", stride=8), 4, FILM)) > 1e6
    with pytest.raises(StageError, match="cannot build the backbone 'no_such_net'"):
        HeatmapNetwork(built(backbone="no_such_net"), 4, FILM)
    with pytest.raises(StageError, match=r"'resnet10t' has maps of strides \[.*\], none of 3"):
        HeatmapNetwork(built(backbone="resnet10t", stride=3), 4, FILM)


def test_films_that_do_not_fit_the_coarsest_cells_are_refused() -> None:
    with pytest.raises(StageError, match=r"films of \(120, 64\) px do not divide into the cells of 32 px"):
        HeatmapNetwork(built(), 4, (120, 64))


def test_the_network_sees_the_whole_film() -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(built(), 4, FILM).eval()
    film = torch.randn(1, 1, 128, 64, requires_grad=True)
    network(film)[0, 0, 0, 0].backward()
    assert film.grad is not None
    assert film.grad[0, 0, 120:].abs().max() > 0


def test_grey_levels_become_minus_one_to_one() -> None:
    films = as_input(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert films.tolist() == [[[[-1.0, 1.0]]]]


def test_points_off_the_film_and_missing_ones_do_not_count() -> None:
    nan = float("nan")
    points = torch.tensor([[[0, 0], [-0.6, 3], [15.4, 31.4], [15.6, 3], [3, 31.6], [nan, 3]]])
    assert loss.inside(points, (32, 16)).tolist() == [[True, False, True, False, False, False]]


def test_cross_entropy_of_a_perfect_prediction_is_the_targets_entropy() -> None:
    target = torch.zeros(1, 2, 4, 4)
    target[0, 0, 0, :2] = 0.5
    target[0, 1, 1, 1] = 1.0
    logits = target.clamp_min(1e-12).log()
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert float(loss.cross_entropy(logits, target, both)) == pytest.approx(math.log(2) / 2, abs=1e-5)
    assert float(loss.cross_entropy(logits, target, first)) == pytest.approx(math.log(2), abs=1e-5)
    assert float(loss.cross_entropy(logits, target, torch.zeros(1, 2, dtype=torch.bool))) == 0.0


def test_l1_adds_both_axes_and_ignores_missing_points() -> None:
    points = torch.tensor([[[1.0, 2.0], [float("nan"), 0.0]]])
    predicted = torch.tensor([[[2.0, 4.5], [7.0, 7.0]]], requires_grad=True)
    value = loss.l1(predicted, points, torch.tensor([[True, False]]))
    value.backward()
    assert float(value.detach()) == pytest.approx(3.5)
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    with pytest.raises(ValueError, match="equal shapes"):
        loss.l1(predicted, points[:, :1], torch.tensor([[True]]))
